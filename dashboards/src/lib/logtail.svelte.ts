// The log of an agent on a page: what it told last, whoever asked, and its newest lines each few seconds while somebody follows it.
// A question to an agent is a command, which is kept at both ends: nobody follows by only looking at a page, and for no longer than some minutes.
// It is asked again and again, and no stream: a command that goes on would hold up those behind it, since an agent runs one at a time.
import { allCommands, command, send, type CommandAnswer } from '../api/commands';
import { texts } from '../texts';
import { freshKey, isFinal } from './commands';
import { ago, span } from './format';
import { joined, linesOfLog } from './loglines';

const said = texts.device.log;
/** Lines asked for at first, and while it is followed: more do not come between two questions. */
const LINES = 200;
const LINES_NEXT = 100;
/** An agent that is there begins at once. */
const WITHIN_S = 60;
const LOOK_MS = 700;
/** What others were told is looked for, and the agent is asked anew, so often. */
const EACH_MS = 5000;
/** Nobody reads for longer without touching anything. */
export const FOLLOW_MAX_MS = 10 * 60_000;

export class LogTail {
  lines = $state.raw<string[]>([]);
  /** When the newest of them were told (Unix ms); null where it never told any. */
  toldAt = $state<number | null>(null);
  /** Whether lines are missing between what was told before and now. */
  hole = $state(false);
  loaded = $state(false);
  asking = $state(false);
  following = $state(false);
  /** Why it is followed no longer, where nobody said so. */
  paused = $state('');
  error = $state('');

  readonly #agent: string;
  #abort = new AbortController();
  #last = '';
  #until = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(agent: string) {
    this.#agent = agent;
    void this.#turn();
  }

  close(): void {
    this.#abort.abort();
    clearTimeout(this.#timer);
  }

  follow(on: boolean): void {
    this.following = on;
    this.paused = '';
    this.#until = performance.now() + FOLLOW_MAX_MS;
    if (on && !this.asking) void this.#turn();
  }

  /** Ends following, and says why. */
  pause(why: string): void {
    if (!this.following) return;
    this.following = false;
    this.paused = why;
  }

  /** How what is shown goes with what the agent logs now. */
  told(isOnline: boolean, now: number): string {
    if (this.toldAt === null) {
      if (!this.loaded) return this.error ? '' : texts.loading;
      return isOnline ? said.never : said.awayNever;
    }
    const at = ago(this.toldAt, now);
    if (!isOnline) return said.away(at);
    return this.following ? said.follows(span(EACH_MS), at) : said.told(at);
  }

  /** One look at what was told, or a question; then the next one. */
  async #turn(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.following && performance.now() >= this.#until) this.pause(said.pausedLong);
    if (!document.hidden) await (this.following ? this.ask() : this.#look());
    if (!this.#abort.signal.aborted) this.#timer = setTimeout(() => void this.#turn(), EACH_MS);
  }

  /** What it told last, whoever asked. */
  async #look(): Promise<void> {
    const { signal } = this.#abort;
    try {
      const { commands: [last] } = await allCommands({ device: this.#agent, kind: 'logs', state: 'succeeded' }, 1, null, signal);
      if (last !== undefined && last.id !== this.#last) this.#take(await command(last.id, signal));
      this.loaded = true;
    } catch (failed) {
      // The device's page itself says when the hub cannot be reached.
      if (!this.loaded) this.#fail(failed);
    }
  }

  /** Asks the agent for its newest lines. */
  async ask(): Promise<void> {
    if (this.asking) return;
    const { signal } = this.#abort;
    this.asking = true;
    try {
      const { id } = await send(this.#agent, freshKey(), { kind: 'logs', input: { lines: this.lines.length === 0 ? LINES : LINES_NEXT }, within_s: WITHIN_S });
      let answer = await command(id, signal);
      while (!isFinal(answer.state)) {
        await new Promise((wake) => { setTimeout(wake, LOOK_MS); });
        answer = await command(id, signal);
      }
      this.error = answer.state === 'succeeded' ? '' : (answer.error ? `${answer.error.code}: ${answer.error.text}` : said.noAnswer);
      if (answer.state === 'succeeded') this.#take(answer);
      else this.pause(this.error);
    } catch (failed) {
      this.#fail(failed);
      this.pause(this.error);
    }
    if (!signal.aborted) this.asking = false;
  }

  #take(answer: CommandAnswer): void {
    const { lines, hole } = joined(this.lines, linesOfLog(answer.output));
    this.#last = answer.id;
    this.lines = lines;
    this.hole = hole;
    this.toldAt = answer.ended_ms ?? answer.changed_ms;
    this.loaded = true;
  }

  #fail(failed: unknown): void {
    if (!this.#abort.signal.aborted) this.error = failed instanceof Error ? failed.message : String(failed);
  }
}
