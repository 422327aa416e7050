// What was done to a board, to be taken back and done again. Pure.

/** Steps that can be taken back; a board is a few kilobytes. */
export const STEPS_MAX = 100;

export interface Steps<T> { past: T[]; now: T; future: T[] }

export function begin<T>(now: T): Steps<T> {
  return { past: [], now, future: [] };
}

/** Another step; what was taken back before is gone. */
export function step<T>(steps: Steps<T>, next: T): Steps<T> {
  return { past: [...steps.past, steps.now].slice(-STEPS_MAX), now: next, future: [] };
}

export function undo<T>({ past, now, future }: Steps<T>): Steps<T> {
  if (past.length === 0) return { past, now, future };
  return { past: past.slice(0, -1), now: past[past.length - 1], future: [now, ...future] };
}

export function redo<T>({ past, now, future }: Steps<T>): Steps<T> {
  if (future.length === 0) return { past, now, future };
  return { past: [...past, now], now: future[0], future: future.slice(1) };
}
