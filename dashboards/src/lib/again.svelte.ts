// What a page shows is looked for again each few seconds while it can be seen, as the event stream tells nothing of it.
import { hubNow } from '../api/client';

export const AGAIN_MS = 10_000;
/** Older than this what is shown is stale, though nobody has said that the hub is away. */
export const OLD_MS = 2 * AGAIN_MS;
const TICK_MS = 1000;

export class Again {
  /** As of when what is shown is (Unix ms); 0 where nothing is. */
  asOf = $state(0);
  now = $state(hubNow());
  /** Why the last look failed; the next one that does not takes it away. */
  error = $state('');
  readonly #look: () => Promise<void>;
  readonly #timer = setInterval(() => { if (!document.hidden && this.#under === 0) void this.turn(); }, AGAIN_MS);
  /** A look that hangs is told by its age, which goes on. */
  readonly #ticks = setInterval(() => { if (!document.hidden) this.now = hubNow(); }, TICK_MS);
  #last: Promise<void> = Promise.resolve();
  /** Looks that have begun or wait. */
  #under = 0;

  constructor(look: () => Promise<void>) {
    this.#look = look;
  }

  /** Whether the last look failed, or the next one is long overdue: nobody knows whether what is shown is still so. */
  get isOld(): boolean {
    return this.error !== '' || this.now - this.asOf > OLD_MS;
  }

  close(): void {
    clearInterval(this.#timer);
    clearInterval(this.#ticks);
  }

  /** A look that begins after all that was done before, one after the other. */
  turn(): Promise<void> {
    this.#under += 1;
    this.#last = this.#last.then(() => this.#once());
    return this.#last;
  }

  async #once(): Promise<void> {
    try {
      await this.#look();
      this.error = '';
      this.asOf = hubNow();
    } catch (failed) {
      this.error = failed instanceof Error ? failed.message : String(failed);
    }
    this.now = hubNow();
    this.#under -= 1;
  }
}
