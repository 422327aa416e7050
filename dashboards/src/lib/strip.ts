// How a timeline of states looks and behaves: boxes along the same axis of time
// as the charts', beneath the gaps and corrections that lie over them. Positions
// are set through the CSSOM, which the page's content security policy allows.
import uPlot from 'uplot';
import { AXIS_WIDTH, colour, drawStretches, pointerAt, tellStretches, timeAxis, timeCursor, zonedDate, zoomSelected, type TimeInputs } from './plot';

export const STRIP_HEIGHT = 74;
/** A box is at least this wide, so that a short state can be seen in a long range. */
const BOX_MIN_PX = 2;
/** A narrower box has no label. */
const LABEL_MIN_PX = 26;
/** Boxes at least this wide stand apart from the next. */
const APART_MIN_PX = 4;

/** One box as it is drawn. */
export interface StripBox {
  from: number;
  to: number;
  label: string;
  /** Names its colours in the style sheet. */
  shade: string;
  quality: string;
  /** Whether it is the one that is told of. */
  on: boolean;
}

export interface StripInputs extends TimeInputs {
  boxes(): StripBox[];
  onhover(time: number | null): void;
}

function drawStates(plot: uPlot, boxes: StripBox[]): void {
  const drawn = plot.under.querySelectorAll<HTMLElement>('.state-band');
  for (let i = boxes.length; i < drawn.length; i += 1) drawn[i].remove();
  boxes.forEach((box, i) => {
    let element = drawn[i];
    if (!element) {
      element = document.createElement('div');
      element.className = 'state-band';
      element.dataset.testid = 'state-band';
      plot.under.append(element);
    }
    const left = plot.valToPos(box.from, 'x');
    const width = Math.max(BOX_MIN_PX, plot.valToPos(box.to, 'x') - left);
    element.style.left = `${left}px`;
    element.style.width = `${width >= APART_MIN_PX ? width - 1 : width}px`;
    element.dataset.shade = box.shade;
    element.dataset.quality = box.quality;
    element.dataset.on = String(box.on);
    const label = width >= LABEL_MIN_PX ? box.label : '';
    if (element.textContent !== label) element.textContent = label;
  });
}

function options(inputs: StripInputs): uPlot.Options {
  return {
    width: inputs.width,
    height: STRIP_HEIGHT,
    ms: 1,
    tzDate: zonedDate,
    padding: [6, 10, 0, AXIS_WIDTH],
    legend: { show: false },
    cursor: timeCursor(colour('--line')),
    scales: { x: { time: true, range: () => [inputs.span().from, inputs.span().to] }, y: { range: [0, 1] } },
    // Lines of a grid would run through the labels.
    axes: [{ ...timeAxis(), grid: { show: false } }, { show: false }],
    series: [{}, { show: false }],
    hooks: {
      draw: [(plot) => {
        drawStates(plot, inputs.boxes());
        drawStretches(plot, inputs);
      }],
      setCursor: [(plot) => {
        const left = pointerAt(plot);
        inputs.onhover(left === null ? null : plot.posToVal(left, 'x'));
        tellStretches(plot, inputs);
      }],
      setSelect: [(plot) => zoomSelected(plot, inputs)],
    },
  };
}

/** Two rows without values: the scale of time needs some to stand on. */
function frame(inputs: StripInputs): uPlot.AlignedData {
  const { from, to } = inputs.span();
  return [[from, to], [null, null]];
}

/** Makes a timeline inside `host`. */
export function makeStrip(host: HTMLElement, inputs: StripInputs): uPlot {
  return new uPlot(options(inputs), frame(inputs), host);
}

/** Draws new states and a new range in one go. */
export function updateStrip(plot: uPlot, inputs: StripInputs): void {
  plot.batch(() => {
    plot.setData(frame(inputs), false);
    const { from, to } = inputs.span();
    plot.setScale('x', { min: from, max: to });
  });
}

/** Draws the boxes alone again, when another is told of. */
export function markStrip(plot: uPlot, inputs: StripInputs): void {
  drawStates(plot, inputs.boxes());
}
