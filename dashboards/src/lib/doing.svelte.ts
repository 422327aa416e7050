// What a page of forms does one after the other: the last fault is shown, and what is done is asked for again, as it is now and then.
import { Again } from './again.svelte';

export class Doing {
  error = $state('');
  told = $state('');
  busy = $state(false);
  readonly again: Again;

  constructor(load: () => Promise<void>) {
    this.again = new Again(load);
    void this.do(() => Promise.resolve(''));
  }

  close(): void {
    this.again.close();
  }

  /** Does something, tells what came of it, and asks for what is there then. */
  async do(work: () => Promise<string>): Promise<void> {
    this.busy = true;
    this.error = '';
    this.told = '';
    try {
      this.told = await work();
    } catch (failed) {
      this.error = failed instanceof Error ? failed.message : String(failed);
    }
    await this.again.turn();
    this.busy = false;
  }
}
