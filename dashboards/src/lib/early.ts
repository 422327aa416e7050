// What a page begins with is asked for while the app's scripts still come, so that whoever opens it waits for one answer and not for
// a chain of them. It is in the first script: whatever it imports is too.
import { BASE } from '../api/way';
import { paramsOf, parseHash } from './route';

/** Rows of the fleet's list that come with its figures: more than most screens show. */
const FIRST_ROWS = 60;
/** What narrows or sorts the list, which then begins with other rows. */
const NARROWING = ['q', 'state', 'site', 'group', 'tag', 'firmware', 'sort'];
/** For how long an answer is one to a question of now. */
const GOOD_FOR_MS = 5000;

export const SESSION = '/session';
/** The fleet's figures with the first rows of its list. */
export const FLEET_FIRST = `/fleet?rows=${FIRST_ROWS}`;

/** Whether the fleet's list begins with the first devices by id. */
export function beginsPlain(params: URLSearchParams): boolean {
  return NARROWING.every((name) => !params.get(name));
}

/** What the page of an address begins with. */
export function earlyPaths(hash: string): string[] {
  const { page } = parseHash(hash);
  // Who comes by a link is asked for no login, and asks in another way.
  if (page === 'shared') return [];
  return page === 'fleet' && beginsPlain(paramsOf(hash)) ? [SESSION, FLEET_FIRST] : [SESSION];
}

const asked = new Map<string, { at: number; answer: Promise<Response> }>();

/** Asks for what the page of an address begins with. */
export function askEarly(hash: string): void {
  for (const path of earlyPaths(hash)) {
    const answer = fetch(BASE + path, { credentials: 'same-origin', cache: 'no-store' });
    // Whoever takes it is told; nobody has to take it.
    answer.catch(() => undefined);
    asked.set(path, { at: performance.now(), answer });
  }
}

/** The answer to a question that was asked early, once. */
export function takeEarly(path: string): Promise<Response> | null {
  const found = asked.get(path);
  asked.delete(path);
  return found !== undefined && performance.now() - found.at < GOOD_FOR_MS ? found.answer : null;
}

/** What was asked as somebody else, or as nobody, is no answer any more. */
export function forgetEarly(): void {
  asked.clear();
}
