// A board that is being changed: its steps, to be taken back, and its way to the hub.
import { ApiError } from '../../api/client';
import * as boards from '../../api/boards';
import type { Board, BoardAnswer, Kind, Panel, Show } from '../../api/boards';
import { compact, freeId, placed, room, type Place } from './grid';
import { begin, redo, step, undo, type Steps } from './undo';

export const KINDS: Kind[] = ['line', 'stat', 'gauge', 'bar', 'states', 'heat', 'table', 'map', 'text'];
/** Columns and rows of a new panel. */
const SIZES: Record<Kind, [number, number]> = {
  line: [6, 7], stat: [3, 4], gauge: [3, 5], bar: [4, 6], states: [6, 5], heat: [6, 7], table: [6, 6], map: [6, 9], text: [3, 4],
};

/** A panel's contents of another kind, with what the two have in common. */
export function asKind(show: Show | null, kind: Kind): Show {
  const series = show && 'series' in show ? show.series : [];
  const figure = show && 'figure' in show ? show.figure : 'last';
  const bands = show && 'bands' in show ? show.bands : [];
  switch (kind) {
    case 'line': return { kind, series, bands, marks: [] };
    case 'stat': return { kind, series, figure, bands, spark: true };
    case 'gauge': return { kind, series, figure, bands, min: 0, max: 100 };
    case 'bar': return { kind, series, figure, bands };
    case 'states': return { kind, series };
    case 'heat': return { kind, series, by: 'series_time', figure: 'mean' };
    case 'table': return { kind, series, figures: ['last', 'min', 'mean', 'max'] };
    case 'map': return { kind, devices: show && 'devices' in show ? show.devices : ['*'] };
    case 'text': return { kind, text: '' };
  }
}

export class Editor {
  steps = $state.raw<Steps<Board>>(begin<Board>({ version: 1, title: '', panels: [] }));
  /** The panel whose form is open. */
  chosen = $state<string | null>(null);
  saving = $state(false);
  error = $state('');
  /** What somebody else has made of it meanwhile. */
  theirs = $state.raw<BoardAnswer | null>(null);
  readonly id: string;
  /** The version that it is made of. */
  version: number;
  #saved = $state.raw<Board>({ version: 1, title: '', panels: [] });

  constructor(id: string, { board, info }: BoardAnswer) {
    this.id = id;
    this.version = info.version;
    this.#saved = board;
    this.steps = begin(board);
  }

  get board(): Board {
    return this.steps.now;
  }

  get isChanged(): boolean {
    return JSON.stringify(this.steps.now) !== JSON.stringify(this.#saved);
  }

  get panel(): Panel | null {
    return this.board.panels.find(({ id }) => id === this.chosen) ?? null;
  }

  change(board: Board): void {
    this.steps = step(this.steps, board);
  }

  undo(): void {
    this.steps = undo(this.steps);
  }

  redo(): void {
    this.steps = redo(this.steps);
  }

  add(kind: Kind): void {
    const { panels } = this.board;
    const id = freeId(panels);
    const [w, h] = SIZES[kind];
    this.change({ ...this.board, panels: [...panels, { id, title: '', ...room(panels, w, h), show: asKind(null, kind) }] });
    this.chosen = id;
  }

  alter(id: string, changes: Partial<Panel>): void {
    const panels = this.board.panels.map((panel) => (panel.id === id ? { ...panel, ...changes } : panel));
    this.change({ ...this.board, panels });
  }

  move(id: string, place: Place): void {
    const panels = placed(this.board.panels, id, place);
    if (JSON.stringify(panels) !== JSON.stringify(this.board.panels)) this.change({ ...this.board, panels });
  }

  remove(id: string): void {
    if (this.chosen === id) this.chosen = null;
    this.change({ ...this.board, panels: compact(this.board.panels.filter((panel) => panel.id !== id)) });
  }

  /** Keeps it at the hub; true when it is there. */
  async save(): Promise<boolean> {
    return this.#send((board) => boards.saveBoard(this.id, board, this.version));
  }

  /** Keeps it in the place of what somebody else made meanwhile, which stays an older version. */
  async saveOver(): Promise<boolean> {
    if (this.theirs) this.version = this.theirs.info.version;
    return this.save();
  }

  /** Goes on with what somebody else made; one's own changes can be had back by a step. */
  takeTheirs(): void {
    if (!this.theirs) return;
    this.version = this.theirs.info.version;
    this.#saved = this.theirs.board;
    this.change(this.theirs.board);
    this.theirs = null;
    this.error = '';
  }

  async restore(older: number): Promise<boolean> {
    const done = await this.#send(() => boards.restoreBoard(this.id, older, this.version));
    if (done) this.change(this.#saved);
    return done;
  }

  async #send(ask: (board: Board) => Promise<BoardAnswer>): Promise<boolean> {
    this.saving = true;
    const sent = this.board;
    try {
      const answer = await ask(sent);
      this.version = answer.info.version;
      this.#saved = answer.board;
      this.theirs = null;
      this.error = '';
      // As the hub has it, unless it was changed on the way: what the hub leaves out is no change.
      if (this.board === sent) this.steps = { ...this.steps, now: answer.board };
      return true;
    } catch (cause) {
      this.error = cause instanceof Error ? cause.message : String(cause);
      if (cause instanceof ApiError && cause.code === 'board-changed') {
        this.theirs = await boards.board(this.id).catch(() => null);
      }
      return false;
    } finally {
      this.saving = false;
    }
  }
}
