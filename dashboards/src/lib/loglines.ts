// Lines of an agent's log: their levels, and how what is told later goes on from what was told before. Pure.

/** From the worst on. */
export const LEVELS = ['error', 'warn', 'info', 'debug', 'trace'] as const;
export type LogLevel = (typeof LEVELS)[number];

/** Lines kept while a log is followed; the oldest go first. */
export const LINES_KEPT_MAX = 1000;
/** A level stands near the beginning of its line, after the time. */
const WITHIN = 48;

export interface LogLine { text: string; /** Null where nothing says it. */ level: LogLevel | null }

/** Lines with their levels; one that names none goes on from the one before it. */
export function logLines(texts: string[]): LogLine[] {
  let level: LogLevel | null = null;
  return texts.map((text) => {
    const named = /\b(ERROR|WARN|INFO|DEBUG|TRACE)\b/.exec(text.slice(0, WITHIN))?.[1].toLowerCase();
    level = LEVELS.find((one) => one === named) ?? level;
    return { text, level };
  });
}

/** Those of a level or worse; what names no level is never left out, since nobody knows how bad it is. */
export function ofLevel(lines: LogLine[], least: LogLevel): LogLine[] {
  const most = LEVELS.indexOf(least);
  return lines.filter(({ level }) => level === null || LEVELS.indexOf(level) <= most);
}

/** The log told as text, as lines. */
export function linesOfLog(text: string): string[] {
  const lines = text.split('\n');
  if (lines[lines.length - 1] === '') lines.pop();
  return lines;
}

/** What was known and what is told now, each line once; and whether lines between them may be missing. */
export function joined(known: string[], told: string[]): { lines: string[]; hole: boolean } {
  for (let n = told.length; n > 0; n -= 1) {
    // The first `n` lines are known, or the last of them where more are told than are known.
    const same = Math.min(n, known.length);
    if (same > 0 && Array.from({ length: same }, (_, i) => i).every((i) => known[known.length - 1 - i] === told[n - 1 - i])) {
      return { lines: [...known, ...told.slice(n)].slice(-LINES_KEPT_MAX), hole: false };
    }
  }
  return { lines: [...known, ...told].slice(-LINES_KEPT_MAX), hole: known.length > 0 && told.length > 0 };
}
