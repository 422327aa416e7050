// Server-sent events by fetch, for questions that need a header: as much of EventSource as the
// live feed uses. It does not reconnect by itself; its end is an error with `readyState` CLOSED.

/** One event as the stream has it. */
export interface Parsed { name: string; data: string }

/** Takes text as it comes, and gives the events that are whole. */
export class EventText {
  #rest = '';

  push(text: string): Parsed[] {
    // An end of a line may come in two parts.
    this.#rest = (this.#rest + text).replaceAll('\r\n', '\n');
    const out: Parsed[] = [];
    for (let end = this.#rest.indexOf('\n\n'); end >= 0; end = this.#rest.indexOf('\n\n')) {
      const lines = this.#rest.slice(0, end).split('\n');
      this.#rest = this.#rest.slice(end + 2);
      const of = (name: string): string[] => lines.filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).replace(/^ /, ''));
      const data = of('data');
      // Without data it only keeps the line alive.
      if (data.length > 0) out.push({ name: of('event')[0] ?? 'message', data: data.join('\n') });
    }
    return out;
  }
}

export class FetchedEvents {
  onopen: (() => void) | null = null;
  onerror: (() => void) | null = null;
  readyState: number = EventSource.CONNECTING;
  /** Whether the hub answered with a refusal, and was not just away. */
  isRefused = false;
  #handlers = new Map<string, (event: MessageEvent<string>) => void>();
  #abort = new AbortController();

  constructor(address: string, headers: Record<string, string>) {
    void this.#read(address, headers);
  }

  addEventListener(name: string, handle: (event: MessageEvent<string>) => void): void {
    this.#handlers.set(name, handle);
  }

  close(): void {
    this.readyState = EventSource.CLOSED;
    this.onerror = null;
    this.#abort.abort();
  }

  async #read(address: string, headers: Record<string, string>): Promise<void> {
    try {
      const response = await fetch(address, { headers: { ...headers, accept: 'text/event-stream' }, cache: 'no-store', signal: this.#abort.signal });
      this.isRefused = response.status === 401;
      if (!response.ok || !response.body) throw new Error(String(response.status));
      this.readyState = EventSource.OPEN;
      this.onopen?.();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const text = new EventText();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        for (const { name, data } of text.push(value)) this.#handlers.get(name)?.(new MessageEvent(name, { data }));
      }
    } catch {
      // Told below, as an end is.
    }
    this.readyState = EventSource.CLOSED;
    this.onerror?.();
  }
}
