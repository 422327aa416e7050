import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { FOLLOW_MAX_MS, LogTail } from '../src/lib/logtail.svelte';

/** A hub with an agent that says one line more each time it is asked; it may refuse. */
let sent: { lines: number }[] = [];
let outputs: string[] = [];
let refuses = false;
const page = { hidden: false };

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  [sent, outputs, refuses] = [[], [], false];
  page.hidden = false;
  vi.stubGlobal('document', page);
  vi.stubGlobal('fetch', (address: string, init: RequestInit = {}) => {
    const { pathname } = new URL(address, 'http://hub');
    const told = (n: number): object => ({ id: String(n), kind: 'logs', state: refuses ? 'failed' : 'succeeded', error: refuses ? { code: 'busy', text: 'too much to do' } : null, output: outputs[n] ?? '', changed_ms: n, ended_ms: n });
    if (init.method === 'POST') {
      sent.push((JSON.parse(String(init.body)) as { input: { lines: number } }).input);
      outputs.push(Array.from({ length: outputs.length + 2 }, (_, i) => `INFO line ${i}\n`).join(''));
      return Promise.resolve(new Response(JSON.stringify({ id: String(outputs.length - 1) })));
    }
    const newest = outputs.length - 1;
    const body = pathname.endsWith('/commands') ? { commands: newest < 0 ? [] : [told(newest)], next: null } : told(Number(pathname.split('/').at(-1)));
    return Promise.resolve(new Response(JSON.stringify(body)));
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

describe('the log of an agent', () => {
  test('is not asked for by looking at it, and shows what others were told', async () => {
    const tail = new LogTail('pump-7');
    await pass(60_000);
    expect([sent.length, tail.loaded, tail.toldAt]).toEqual([0, true, null]);
    outputs.push('INFO told to somebody else\n');
    await pass(6000);
    expect(tail.lines).toEqual(['INFO told to somebody else']);
    tail.close();
  });

  test('is followed each few seconds, each line once, until it is paused', async () => {
    const tail = new LogTail('pump-7');
    await pass(0);
    tail.follow(true);
    await pass(21_000);
    expect(sent.length).toBe(5);
    expect([sent[0].lines, sent[4].lines]).toEqual([200, 100]);
    expect(tail.lines).toEqual(['INFO line 0', 'INFO line 1', 'INFO line 2', 'INFO line 3', 'INFO line 4', 'INFO line 5']);
    tail.follow(false);
    await pass(30_000);
    expect([sent.length, tail.following, tail.paused]).toEqual([5, false, '']);
    tail.close();
  });

  test('is followed for ten minutes at most, and not while the page is hidden', async () => {
    const tail = new LogTail('pump-7');
    tail.follow(true);
    page.hidden = true;
    await pass(60_000);
    const hidden = sent.length;
    page.hidden = false;
    await pass(FOLLOW_MAX_MS);
    expect(hidden).toBeLessThanOrEqual(1);
    expect(tail.paused).toContain('ten minutes');
    const all = sent.length;
    await pass(60_000);
    expect(sent.length).toBe(all);
    tail.close();
  });

  test('is followed no longer when its agent fails, is away, or the page is left', async () => {
    const tail = new LogTail('pump-7');
    refuses = true;
    tail.follow(true);
    await pass(6000);
    expect([tail.following, tail.error, tail.paused]).toEqual([false, 'busy: too much to do', 'busy: too much to do']);
    refuses = false;
    tail.follow(true);
    tail.pause('the agent is away');
    await pass(0);
    expect([tail.following, tail.paused]).toEqual([false, 'the agent is away']);
    tail.follow(true);
    await pass(0);
    tail.close();
    const all = sent.length;
    await pass(60_000);
    expect(sent.length).toBe(all);
  });

  test('says how often it is asked for, and what is not known while its agent is away', async () => {
    const tail = new LogTail('pump-7');
    expect(tail.told(true, 0)).toBe('Loading…');
    await pass(0);
    expect([tail.told(true, 0), tail.told(false, 0)].map((text) => /away/.test(text))).toEqual([false, true]);
    tail.follow(true);
    await pass(0);
    expect(tail.told(true, 60_000)).toMatch(/^Asked for each 5 s, for ten minutes at most and not while this page is hidden; told 1 min ago/);
    tail.follow(false);
    expect(tail.told(true, 60_000)).toMatch(/1 min ago.*not followed/);
    expect(tail.told(false, 60_000)).toMatch(/^The agent is away.*1 min ago/);
    tail.close();
  });
});
