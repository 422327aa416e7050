// How a chart looks and behaves: the options of uPlot, and the shaded bands of
// gaps beneath it. Positions are set through the CSSOM, which the page's
// content security policy allows.
import uPlot from 'uplot';
import { causesText } from './causes';
import { axisTime, axisValues, count, range } from './format';
import type { Band, Drawn } from './series';

export const CHART_HEIGHT = 168;
const AXIS_WIDTH = 54;
/** Of a digit in the axes' font. */
const LABEL_WIDTH = 6.5;
/** A narrower drag is a click that slipped. */
const DRAG_MIN_PX = 6;
/** A gap is at least this wide, so that a short one can be seen in a long range. */
const BAND_MIN_PX = 2;

export interface PlotInputs {
  width: number;
  /** The values' unit, as a UCUM code. */
  readonly unit: string;
  span(): { from: number; to: number };
  drawn(): Drawn;
  bands(): Band[];
  onzoom(from: number, to: number): void;
  onhover(index: number | null): void;
}

function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** The text of a gap as its hover title. */
export function bandTitle(band: Band): string {
  return `Gap: ${count(band.rows)} readings dropped\n${causesText(band.causes)}\n${range(band.from, band.to)}`;
}

function drawBands(plot: uPlot, bands: Band[]): void {
  const boxes = plot.under.querySelectorAll<HTMLElement>('.gap-band');
  for (let i = bands.length; i < boxes.length; i += 1) boxes[i].remove();
  bands.forEach((band, i) => {
    let box = boxes[i];
    if (!box) {
      box = document.createElement('div');
      box.className = 'gap-band';
      box.dataset.testid = 'gap-band';
      plot.under.append(box);
    }
    const left = plot.valToPos(band.from, 'x');
    const width = Math.max(BAND_MIN_PX, plot.valToPos(band.to, 'x') - left);
    box.style.left = `${left}px`;
    box.style.width = `${width}px`;
    box.title = bandTitle(band);
  });
}

function bandAt(plot: uPlot, bands: Band[], left: number): Band | undefined {
  return bands.find((band) => {
    const from = plot.valToPos(band.from, 'x');
    const to = Math.max(from + BAND_MIN_PX, plot.valToPos(band.to, 'x'));
    return left >= from - 1 && left <= to + 1;
  });
}

function hooks(inputs: PlotInputs): uPlot.Hooks.Arrays {
  return {
    draw: [(plot) => drawBands(plot, inputs.bands())],
    setCursor: [(plot) => {
      const { left, idx } = plot.cursor;
      const inside = left !== undefined && left !== null && left >= 0;
      inputs.onhover(inside ? (idx ?? null) : null);
      // The plot's upper layer takes the mouse, so it carries the band's title.
      const band = inside ? bandAt(plot, inputs.bands(), left) : undefined;
      const title = band ? bandTitle(band) : '';
      if (plot.over.title !== title) plot.over.title = title;
    }],
    setSelect: [(plot) => {
      const { left, width } = plot.select;
      if (width < DRAG_MIN_PX) return;
      const from = plot.posToVal(left, 'x');
      const to = plot.posToVal(left + width, 'x');
      plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
      inputs.onzoom(from, to);
    }],
  };
}

function axes(inputs: PlotInputs): uPlot.Axis[] {
  const grid = { stroke: colour('--grid'), width: 1 };
  const font = `11px ${getComputedStyle(document.body).fontFamily}`;
  const shared = { stroke: colour('--muted'), font, grid };
  return [
    {
      ...shared,
      size: 26,
      space: 64,
      ticks: { ...grid, size: 4 },
      values: (_plot, splits, _axis, _space, step) => splits.map((ms) => axisTime(ms, step)),
    },
    {
      ...shared,
      // Wide enough for the longest label, and no narrower than the others' so that charts line up.
      size: (_plot, labels) => Math.max(AXIS_WIDTH, ...(labels ?? []).map((label) => label.length * LABEL_WIDTH + 14)),
      space: 28,
      ticks: { show: false },
      gap: 6,
      values: (_plot, splits, _axis, _space, step) => axisValues(splits, step, inputs.unit),
    },
  ];
}

function options(inputs: PlotInputs): uPlot.Options {
  const line = colour('--line');
  const edge: uPlot.Series = { stroke: 'transparent', width: 0, points: { show: false } };
  return {
    width: inputs.width,
    height: CHART_HEIGHT,
    ms: 1,
    padding: [8, 10, 0, 0],
    legend: { show: false },
    cursor: {
      y: false,
      drag: { x: true, y: false, setScale: false },
      points: { size: 6, width: 0, fill: line },
      // Charts share the cross hair but not the drag: one zoom is enough.
      sync: { key: 'board', setSeries: false, filters: { pub: (type) => type === 'mousemove' || type === 'mouseleave' } },
    },
    scales: {
      x: { time: true, range: () => [inputs.span().from, inputs.span().to] },
      y: { range: (_plot, min, max) => (min === null || max === null ? [0, 1] : uPlot.rangeNum(min, max, 0.1, true)) },
    },
    axes: axes(inputs),
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
