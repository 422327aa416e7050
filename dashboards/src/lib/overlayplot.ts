// How a chart of several series looks: a colour and a dash for each, an axis of
// values for each unit, the envelopes beneath the means, the earlier period pale.
import uPlot from 'uplot';
import type { DoubtMark } from './doubts';
import { unit as shownUnit } from './format';
import { valueRange } from './axis';
import { axisFont, colour, doubtful, drawBoxes, drawDoubts, drawStretches, tellStretches, pointerAt, timeAxis, timeCursor, valueAxis, zonedDate, zoomSelected, type Stretch, type TimeInputs } from './plot';
import { lonelyRows, tablesOf, unitsOf, type Line } from './overlay';
import { drawLabels, drawLimits } from './limitplot';
import type { Limit } from './boards/limits';

/** Beside the colours, so that lines are told apart without them. */
export const DASHES: number[][] = [[], [8, 4], [2, 3], [9, 3, 2, 3], [14, 4], [4, 4], [1, 4], [14, 3, 4, 3]];
/** Two hexadecimal digits behind a colour. */
const BAND_ALPHA = '2e';
const PALE_ALPHA = '80';
const THRESHOLD_ALPHA = '24';

/** A range of values that means something, drawn across the chart. */
export interface Threshold { from: number; to: number; colour: string }

export interface OverlayInputs extends TimeInputs {
  /** Of the first unit's values. */
  thresholds?(): Threshold[];
  /** Their ends, as lines with labels. */
  limits?(): Limit[];
  /** What happened, as thin lines with a text. */
  happened?(): Stretch[];
  /** Readings that are not good, or have no value. */
  doubts?(): DoubtMark[];
  height: number;
  lines(): Line[];
  /** Of the buckets (ms). */
  step(): number;
  /** How far an earlier period is moved (ms). */
  offset(): number;
  onhover(time: number | null): void;
}

/** The colour of the line at a place. */
export function lineColour(place: number): string {
  return colour(`--series-${place}`);
}

/** The name of a unit's scale, which no unit can make that of time. */
function scaleOf(unit: string): string {
  return `of ${unit}`;
}

/** The columns of all lines along one axis of time. */
export function joined(lines: Line[], step: number, offset: number): uPlot.AlignedData {
  const tables = lines.flatMap((line) => tablesOf(line, step, offset));
  if (tables.length === 0) return [[]];
  // Where only other lines have a time, a line goes on; beside a break of its own (2: nulls spread there)
  // it must not, or it would be drawn right through the gap.
  return uPlot.join(tables as uPlot.AlignedData[], tables.map((table) => table.map(() => 2)));
}

function data(inputs: OverlayInputs): uPlot.AlignedData {
  return joined(inputs.lines(), inputs.step(), inputs.offset());
}

function seriesOf(inputs: OverlayInputs): { series: uPlot.Series[]; bands: uPlot.Band[] } {
  const series: uPlot.Series[] = [{}];
  const bands: uPlot.Band[] = [];
  inputs.lines().forEach((line, place) => {
    const stroke = lineColour(place);
    const edge: uPlot.Series = { scale: scaleOf(line.unit), stroke: 'transparent', width: 0, points: { show: false } };
    const at = series.length;
    const dots = (offset: number, pick: () => Line['buckets']): uPlot.Series.Points => ({
      show: true, size: 4, width: 0, fill: stroke,
      filter: (plot) => lonelyRows(plot.data[0] as number[], pick(), inputs.step(), offset),
    });
    series.push({ ...edge }, { ...edge });
    series.push({ ...edge, stroke, width: 1.5, dash: DASHES[place], points: dots(0, () => inputs.lines()[place].buckets) });
    bands.push({ series: [at + 1, at], fill: stroke + BAND_ALPHA });
    if (line.earlier === null) return;
    const points = dots(inputs.offset(), () => inputs.lines()[place].earlier ?? line.buckets);
    series.push({ ...edge, stroke: stroke + PALE_ALPHA, width: 1.5, dash: DASHES[place], points });
  });
  return { series, bands };
}

/** Beneath the lines: the parts of the thresholds that the axis shows. */
function drawThresholds(plot: uPlot, inputs: OverlayInputs): void {
  const scale = scaleOf(unitsOf(inputs.lines())[0] ?? '');
  const { min, max } = plot.scales[scale] ?? {};
  if (min === undefined || min === null || max === undefined || max === null) return;
  const { left, width } = plot.bbox;
  for (const { from, to, colour: fill } of inputs.thresholds?.() ?? []) {
    if (to <= min || from >= max) continue;
    const top = plot.valToPos(Math.min(to, max), scale, true);
    plot.ctx.fillStyle = fill + THRESHOLD_ALPHA;
    plot.ctx.fillRect(left, top, width, plot.valToPos(Math.max(from, min), scale, true) - top);
  }
}

function options(inputs: OverlayInputs): uPlot.Options {
  const lines = inputs.lines();
  const units = unitsOf(lines);
  const scales: uPlot.Scales = { x: { time: true, range: () => [inputs.span().from, inputs.span().to] } };
  for (const unit of units) scales[scaleOf(unit)] = { range: (_plot, min, max) => valueRange(min, max, unit) };
  const axes = units.map((unit, i): uPlot.Axis => ({
    ...valueAxis({ unit, whole: lines.every((line) => line.unit !== unit || line.whole) }),
    scale: scaleOf(unit),
    side: i % 2 === 0 ? 3 : 1,
    // Whose marks these are: no colour says it, since lines of one unit share an axis.
    ...(units.length > 1 && shownUnit(unit) !== '' ? { label: shownUnit(unit), labelSize: 18, labelFont: axisFont(), labelGap: 2 } : {}),
    // One grid is enough.
    ...(i > 0 ? { grid: { show: false } } : {}),
  }));
  return {
    width: inputs.width,
    height: inputs.height,
    ms: 1,
    tzDate: zonedDate,
    padding: [8, units.length > 1 ? 0 : 10, 0, 0],
    legend: { show: false },
    cursor: { ...timeCursor(colour('--text')), points: { show: false } },
    scales,
    axes: [timeAxis(), ...axes],
    ...seriesOf(inputs),
    hooks: {
      drawClear: [(plot) => {
        drawThresholds(plot, inputs);
        drawLimits(plot, scaleOf(units[0] ?? ''), inputs.limits?.() ?? []);
      }],
      draw: [(plot) => {
        drawStretches(plot, inputs);
        drawBoxes(plot, 'happened', inputs.happened?.() ?? []);
        drawDoubts(plot, inputs.doubts?.() ?? []);
        drawLabels(plot, scaleOf(units[0] ?? ''), inputs.limits?.() ?? []);
      }],
      setCursor: [(plot) => {
        const left = pointerAt(plot);
        inputs.onhover(left === null ? null : plot.posToVal(left, 'x'));
        tellStretches(plot, inputs, [...(inputs.happened?.() ?? []), ...doubtful(inputs.doubts?.() ?? [])]);
      }],
      setSelect: [(plot) => zoomSelected(plot, inputs)],
    },
  };
}

/** Makes the chart inside `host`. */
export function makeOverlay(host: HTMLElement, inputs: OverlayInputs): uPlot {
  return new uPlot(options(inputs), data(inputs), host);
}

/** Draws new data of the same series and a new range in one go. */
export function updateOverlay(plot: uPlot, inputs: OverlayInputs): void {
  plot.batch(() => {
    plot.setData(data(inputs), false);
    const { from, to } = inputs.span();
    plot.setScale('x', { min: from, max: to });
  });
}
