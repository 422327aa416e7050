// How a chart looks and behaves: the options of uPlot, the shaded bands of gaps
// beneath it, and a thin line along its foot where times were corrected. Positions are set through the CSSOM, which the page's
// content security policy allows.
import uPlot from 'uplot';
import { valueRange } from './axis';
import { causesText } from './causes';
import { doubtTitle, isBad, type DoubtMark } from './doubts';
import { axisTime, axisValues, count, range } from './format';
import { lateTitle, type LateBand } from './lates';
import type { Band, Drawn, StampMark } from './series';
import { markTitle } from './stamps';
import { zone } from './zone.svelte';

export const CHART_HEIGHT = 168;
/** Of the axis of values; a timeline leaves as much, so that all cards line up. */
export const AXIS_WIDTH = 54;
/** Of a digit in the axes' font. */
const LABEL_WIDTH = 6.5;
/** A narrower drag is a click that slipped. */
const DRAG_MIN_PX = 6;
/** A gap is at least this wide, so that a short one can be seen in a long range. */
const BAND_MIN_PX = 2;
/** Steps of an axis of integers: nothing lies between two of them. */
const WHOLE_STEPS = Array.from({ length: 19 }, (_, power) => [1, 2, 5].map((n) => n * 10 ** power)).flat();

/** What charts of numbers and timelines of states have in common. */
export interface TimeInputs {
  width: number;
  span(): { from: number; to: number };
  bands(): Band[];
  marks(): StampMark[];
  lates(): LateBand[];
  onzoom(from: number, to: number): void;
}

export interface PlotInputs extends TimeInputs {
  /** The values' unit, as a UCUM code. */
  readonly unit: string;
  /** Whether the values are integers. */
  readonly whole: boolean;
  drawn(): Drawn;
  doubts(): DoubtMark[];
  onhover(index: number | null): void;
}

/** The colour of a custom property as it is now. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** The text of a gap as its hover title. */
export function bandTitle(band: Band): string {
  return `Gap: ${band.rows === 1 ? '1 reading' : `${count(band.rows)} readings`} dropped\n${causesText(band.causes)}\n${range(band.from, band.to)}`;
}

/** A stretch of the chart with a box of its own and a hover text. */
export interface Stretch {
  from: number;
  to: number;
  title: string;
}

function gaps(inputs: TimeInputs): Stretch[] {
  return inputs.bands().map((band) => ({ from: band.from, to: band.to, title: bandTitle(band) }));
}

function corrected(inputs: TimeInputs): Stretch[] {
  return inputs.marks().map((mark) => ({ from: mark.from, to: mark.to, title: markTitle(mark) }));
}

function late(inputs: TimeInputs): Stretch[] {
  return inputs.lates().map((band) => ({ from: band.from, to: band.to, title: lateTitle(band) }));
}

/** Boxes of one look along time, made or moved. */
export function drawBoxes(plot: uPlot, name: string, stretches: Stretch[]): void {
  const boxes = plot.under.querySelectorAll<HTMLElement>(`.${name}`);
  for (let i = stretches.length; i < boxes.length; i += 1) boxes[i].remove();
  stretches.forEach(({ from, to, title }, i) => {
    let box = boxes[i];
    if (!box) {
      box = document.createElement('div');
      box.className = name;
      box.dataset.testid = name;
      plot.under.append(box);
    }
    const left = plot.valToPos(from, 'x');
    const width = Math.max(BAND_MIN_PX, plot.valToPos(to, 'x') - left);
    box.style.left = `${left}px`;
    box.style.width = `${width}px`;
    box.title = title;
  });
}

function isAt(plot: uPlot, { from, to }: Stretch, left: number): boolean {
  const start = plot.valToPos(from, 'x');
  const end = Math.max(start + BAND_MIN_PX, plot.valToPos(to, 'x'));
  return left >= start - 1 && left <= end + 1;
}

/** Draws what came late, the gaps, and what was corrected. */
export function drawStretches(plot: uPlot, inputs: TimeInputs): void {
  drawBoxes(plot, 'late-band', late(inputs));
  drawBoxes(plot, 'gap-band', gaps(inputs));
  drawBoxes(plot, 'stamp-mark', corrected(inputs));
}

/** Tells the gaps, corrections and late readings under the mouse; the plot's upper layer takes it, so that one carries their titles. */
export function tellStretches(plot: uPlot, inputs: TimeInputs, more: Stretch[] = []): void {
  const left = pointerAt(plot);
  const under = left === null ? [] : [...gaps(inputs), ...corrected(inputs), ...late(inputs), ...more].filter((one) => isAt(plot, one, left));
  const title = under.map((one) => one.title).join('\n\n');
  if (plot.over.title !== title) plot.over.title = title;
}

/** Where the cursor is from the plot's left edge (px); null when it is outside. */
export function pointerAt(plot: uPlot): number | null {
  const { left } = plot.cursor;
  return left !== undefined && left !== null && left >= 0 ? left : null;
}

/** Zooms to what was dragged over. */
export function zoomSelected(plot: uPlot, inputs: TimeInputs): void {
  const { left, width } = plot.select;
  if (width < DRAG_MIN_PX) return;
  const from = plot.posToVal(left, 'x');
  const to = plot.posToVal(left + width, 'x');
  plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  inputs.onzoom(from, to);
}

/** Marks of doubtful readings as what the mouse is told of. */
export function doubtful(marks: DoubtMark[]): Stretch[] {
  return marks.map((mark) => ({ from: mark.from, to: mark.to, title: doubtTitle(mark) }));
}

/** Marks of doubtful readings, those with a bad one by another shape. */
export function drawDoubts(plot: uPlot, marks: DoubtMark[]): void {
  drawBoxes(plot, 'doubt-bad', doubtful(marks.filter(isBad)));
  drawBoxes(plot, 'doubt-mark', doubtful(marks.filter((mark) => !isBad(mark))));
}

function hooks(inputs: PlotInputs): uPlot.Hooks.Arrays {
  return {
    draw: [(plot) => {
      drawStretches(plot, inputs);
      drawDoubts(plot, inputs.doubts());
    }],
    setCursor: [(plot) => {
      inputs.onhover(pointerAt(plot) === null ? null : (plot.cursor.idx ?? null));
      tellStretches(plot, inputs, doubtful(inputs.doubts()));
    }],
    setSelect: [(plot) => zoomSelected(plot, inputs)],
  };
}

/** As a canvas wants it. */
export function axisFont(): string {
  return `11px ${getComputedStyle(document.body).fontFamily}`;
}

function axisLook(): uPlot.Axis {
  return { stroke: colour('--muted'), font: axisFont(), grid: { stroke: colour('--grid'), width: 1 } };
}

/** The moment as a date whose local parts are those of the chosen zone: marks stand at its full hours and days. */
export function zonedDate(ms: number): Date {
  const { iana } = zone;
  return iana === null ? new Date(ms) : uPlot.tzDate(new Date(ms), iana);
}

/** The axis of time. */
export function timeAxis(): uPlot.Axis {
  const look = axisLook();
  return {
    ...look,
    size: 26,
    space: 64,
    ticks: { ...look.grid, size: 4 },
    values: (_plot, splits, _axis, _space, step) => splits.map((ms) => axisTime(ms, step)),
  };
}

/** The axis of values of a unit. */
export function valueAxis(inputs: Pick<PlotInputs, 'unit' | 'whole'>): uPlot.Axis {
  return {
    ...axisLook(),
    // Wide enough for the longest label, and no narrower than the others' so that charts line up.
    size: (_plot, labels) => Math.max(AXIS_WIDTH, ...(labels ?? []).map((label) => label.length * LABEL_WIDTH + 14)),
    space: inputs.whole ? 22 : 28,
    ticks: { show: false },
    gap: 6,
    ...(inputs.whole ? { incrs: WHOLE_STEPS } : {}),
    values: (_plot, splits, _axis, _space, step) => axisValues(splits, step, inputs.unit),
  };
}

/** How the mouse works along time. */
export function timeCursor(fill: string): uPlot.Cursor {
  return {
    y: false,
    drag: { x: true, y: false, setScale: false },
    points: { size: 6, width: 0, fill },
    // Charts share the cross hair but not the drag: one zoom is enough.
    sync: { key: 'board', setSeries: false, filters: { pub: (type) => type === 'mousemove' || type === 'mouseleave' } },
  };
}

function options(inputs: PlotInputs): uPlot.Options {
  const line = colour('--line');
  const edge: uPlot.Series = { stroke: 'transparent', width: 0, points: { show: false } };
  return {
    width: inputs.width,
    height: CHART_HEIGHT,
    ms: 1,
    tzDate: zonedDate,
    padding: [8, 10, 0, 0],
    legend: { show: false },
    cursor: timeCursor(line),
    scales: {
      x: { time: true, range: () => [inputs.span().from, inputs.span().to] },
      y: { range: (_plot, min, max) => valueRange(min, max, inputs.unit) },
    },
    axes: [timeAxis(), valueAxis(inputs)],
    series: [
      {},
      { ...edge },
      { ...edge },
      {
        stroke: line,
        width: 1.25,
        points: { show: true, size: 4, width: 0, fill: line, filter: () => inputs.drawn().lonely },
      },
    ],
    bands: [{ series: [2, 1], fill: colour('--band') }],
    hooks: hooks(inputs),
  };
}

function columns(drawn: Drawn): uPlot.AlignedData {
  return [drawn.x, drawn.min, drawn.max, drawn.mean];
}

/** Makes a chart inside `host`. */
export function makePlot(host: HTMLElement, inputs: PlotInputs): uPlot {
  return new uPlot(options(inputs), columns(inputs.drawn()), host);
}

/** Draws new data and a new range in one go. */
export function updatePlot(plot: uPlot, inputs: PlotInputs): void {
  plot.batch(() => {
    plot.setData(columns(inputs.drawn()), false);
    const { from, to } = inputs.span();
    plot.setScale('x', { min: from, max: to });
  });
}
