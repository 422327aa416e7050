// What a page of forms does one after the other: the last fault is shown, and what is done is asked for again.

export class Doing {
  error = $state('');
  told = $state('');
  busy = $state(false);
  readonly #load: () => Promise<void>;

  constructor(load: () => Promise<void>) {
    this.#load = load;
    void this.do(() => Promise.resolve(''));
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
    try {
      await this.#load();
    } catch (failed) {
      this.error ||= failed instanceof Error ? failed.message : String(failed);
    }
    this.busy = false;
  }
}
