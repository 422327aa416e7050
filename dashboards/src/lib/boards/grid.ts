// Panels in a grid of twelve columns: where they may lie, and how the others make room. Pure.

export const COLUMNS = 12;
export const HEIGHT_MAX = 24;
export const ROWS_MAX = 1000;

export interface Place { x: number; y: number; w: number; h: number }
export interface Placed extends Place { id: string }

/** Whether two lie over each other. */
export function meet(a: Place, b: Place): boolean {
  return a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
}

/** The nearest place that the grid has. */
export function within({ x, y, w, h }: Place): Place {
  const wide = Math.min(Math.max(Math.round(w), 1), COLUMNS);
  const high = Math.min(Math.max(Math.round(h), 1), HEIGHT_MAX);
  return {
    x: Math.min(Math.max(Math.round(x), 0), COLUMNS - wide),
    y: Math.min(Math.max(Math.round(y), 0), ROWS_MAX - high),
    w: wide,
    h: high,
  };
}

const readingOrder = (a: Place, b: Place): number => a.y - b.y || a.x - b.x;

/** As they are read: from above, then from the left. */
export function inOrder<P extends Place>(panels: P[]): P[] {
  return [...panels].sort(readingOrder);
}

/** Moves each panel up as far as nothing is in its way; `first` goes before all that begin with it. */
export function compact<P extends Placed>(panels: P[], first: string | null = null): P[] {
  const order = [...panels].sort((a, b) => a.y - b.y || Number(b.id === first) - Number(a.id === first) || a.x - b.x);
  const done: P[] = [];
  for (const panel of order) {
    let y = panel.y;
    while (y > 0 && !done.some((other) => meet({ ...panel, y: y - 1 }, other))) y -= 1;
    while (done.some((other) => meet({ ...panel, y }, other))) y += 1;
    done.push(y === panel.y ? panel : { ...panel, y });
  }
  const byId = new Map(done.map((panel) => [panel.id, panel]));
  return panels.map((panel) => byId.get(panel.id) ?? panel);
}

/** Puts one panel elsewhere; those in its way go down, and all that can goes up. */
export function placed<P extends Placed>(panels: P[], id: string, place: Place): P[] {
  const there = within(place);
  return compact(panels.map((panel) => (panel.id === id ? { ...panel, ...there } : panel)), id);
}

/** Where a new panel of this size has room: beside others, or beneath them all. */
export function room(panels: Place[], w: number, h: number): Place {
  const foot = Math.max(0, ...panels.map((panel) => panel.y + panel.h));
  for (let y = 0; y < foot; y += 1) {
    for (let x = 0; x + w <= COLUMNS; x += 1) {
      const place = { x, y, w, h };
      if (!panels.some((panel) => meet(panel, place))) return place;
    }
  }
  return { x: 0, y: foot, w, h };
}

/** A name that no panel has. */
export function freeId(panels: { id: string }[]): string {
  const taken = new Set(panels.map(({ id }) => id));
  let n = panels.length + 1;
  while (taken.has(`panel-${n}`)) n += 1;
  return `panel-${n}`;
}
