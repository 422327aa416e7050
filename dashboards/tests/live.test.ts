import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { whenSignedOut } from '../src/api/client';
import { HAND_OUT_MS, LiveFeed, type LiveHandlers } from '../src/api/live';

/** As much of a browser's event stream as the feed uses. */
class Stream {
  static readonly CLOSED = 2;
  static opened: Stream[] = [];
  readyState = 0;
  onopen: () => void = () => {};
  onerror: () => void = () => {};
  #listeners = new Map<string, (event: { data: string }) => void>();

  constructor(readonly url: string) {
    Stream.opened.push(this);
  }

  addEventListener(name: string, listener: (event: { data: string }) => void): void {
    this.#listeners.set(name, listener);
  }

  send(name: string, data: string): void {
    this.#listeners.get(name)?.({ data });
  }

  close(): void {
    this.readyState = Stream.CLOSED;
  }
}

const page = { hidden: false, listeners: [] as (() => void)[] };
const isOpen = (): Stream[] => Stream.opened.filter((stream) => stream.readyState !== Stream.CLOSED);

function show(visible: boolean): void {
  page.hidden = !visible;
  for (const listener of page.listeners) listener();
}

function feed(): { feed: LiveFeed; on: { [K in keyof Required<LiveHandlers>]: ReturnType<typeof vi.fn> }; stream: Stream } {
  const on = {
    state: vi.fn(), resync: vi.fn(), readings: vi.fn(), device: vi.fn(), gap: vi.fn(), twin: vi.fn(), command: vi.fn(),
  };
  const made = new LiveFeed({ device: 'pump-7' }, on);
  const [stream] = isOpen();
  stream.onopen();
  return { feed: made, on, stream };
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  Stream.opened = [];
  page.hidden = false;
  page.listeners = [];
  vi.stubGlobal('EventSource', Stream);
  vi.stubGlobal('document', {
    get hidden() { return page.hidden; },
    addEventListener: (_: string, listener: () => void) => { page.listeners.push(listener); },
    removeEventListener: (_: string, listener: () => void) => { page.listeners = page.listeners.filter((one) => one !== listener); },
  });
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe('the feed of a page', () => {
  it('hands out no more often than four times a second, all that came and in order', () => {
    const { on, stream } = feed();
    const seen: number[] = [];
    on.readings.mockImplementation((data: { n: number }) => seen.push(data.n));
    const times = new Set<number>();
    on.device.mockImplementation(() => times.add(performance.now()));
    for (let n = 0; n < 100; n += 1) {
      stream.send('readings', JSON.stringify({ n }));
      stream.send('device', '{}');
      vi.advanceTimersByTime(10);
    }
    vi.advanceTimersByTime(HAND_OUT_MS);
    expect(seen).toEqual(Array.from({ length: 100 }, (_, n) => n));
    expect(times.size).toBeLessThanOrEqual(6);
  });

  it('hands out at once what waits when an answer is taken in', () => {
    const { feed: made, on, stream } = feed();
    stream.send('gap', '{}');
    expect(on.gap).not.toHaveBeenCalled();
    made.flush();
    expect(on.gap).toHaveBeenCalledTimes(1);
    vi.advanceTimersByTime(HAND_OUT_MS * 2);
    expect(on.gap).toHaveBeenCalledTimes(1);
  });

  it('is one stream, closed while the page is hidden, and asks again on return', () => {
    const { on } = feed();
    expect(isOpen()).toHaveLength(1);
    show(false);
    expect(isOpen()).toHaveLength(0);
    expect(on.state).toHaveBeenLastCalledWith('paused');
    show(true);
    expect(isOpen()).toHaveLength(1);
    isOpen()[0].onopen();
    expect(on.resync).toHaveBeenCalledTimes(1);
    expect(on.state).toHaveBeenLastCalledWith('live');
  });

  it('stays closed while it is held, whether the page is seen or not', () => {
    const { feed: made, on, stream } = feed();
    stream.send('readings', '{"series":[]}');
    made.hold(true);
    show(false);
    show(true);
    expect(isOpen()).toHaveLength(0);
    vi.advanceTimersByTime(HAND_OUT_MS);
    expect(on.readings).not.toHaveBeenCalled();
    made.hold(false);
    isOpen()[0].onopen();
    expect(on.resync).toHaveBeenCalledTimes(1);
  });

  it('opens again after an error that the browser gives up on', () => {
    const { on, stream } = feed();
    stream.close();
    stream.onerror();
    expect(on.state).toHaveBeenLastCalledWith('reconnecting');
    vi.advanceTimersByTime(15_000);
    expect(isOpen()).toHaveLength(1);
    isOpen()[0].onopen();
    expect(on.resync).toHaveBeenCalledTimes(1);
  });

  it('ends the session at once when its stream is refused since it has ended, and goes on where the hub is only away', async () => {
    const { stream } = feed();
    const signedOut = vi.fn();
    whenSignedOut(signedOut);
    const fetched = vi.fn(() => Promise.reject(new TypeError('no line')));
    vi.stubGlobal('fetch', fetched);
    stream.close();
    stream.onerror();
    await vi.waitFor(() => expect(fetched).toHaveBeenCalledWith('/api/v1/session', expect.anything()));
    vi.advanceTimersByTime(15_000);
    expect(signedOut).not.toHaveBeenCalled();
    vi.stubGlobal('fetch', () => Promise.resolve(new Response('{"code":"login-needed"}', { status: 401 })));
    isOpen()[0].close();
    Stream.opened[1].onerror();
    await vi.waitFor(() => expect(signedOut).toHaveBeenCalled());
  });

  it('asks again after a message that it cannot read, and after a reset', () => {
    const { on, stream } = feed();
    stream.send('readings', '{');
    stream.send('reset', '{}');
    expect(on.resync).toHaveBeenCalledTimes(2);
    expect(on.readings).not.toHaveBeenCalled();
  });

  it('ends with its page', () => {
    const { feed: made } = feed();
    made.close();
    show(false);
    show(true);
    vi.advanceTimersByTime(60_000);
    expect(isOpen()).toHaveLength(0);
  });
});
