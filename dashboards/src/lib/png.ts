// A chart as a picture with what it needs to be read alone: its range, its lines
// by colour and dash, the gaps, late readings and marks, which the page draws over the chart's canvas, and
// what is to be known of all of it.
import type uPlot from 'uplot';
import type { LateBand } from './lates';
import { DASHES, lineColour } from './overlayplot';
import { colour } from './plot';
import { isBad, type DoubtMark } from './doubts';
import { wrapped } from './picture';
import type { Band, StampMark } from './series';

const ROW_PX = 18;
const PAD_PX = 12;
/** Of a letter of the notes, as wide as they mostly are. */
const CHAR_PX = 6.5;
/** How gaps and late readings are hatched: as the style sheet does it. */
const GAPS = { ink: '--gap', width: 1.5, step: 6, up: true };
const LATES = { ink: '--late', width: 1, step: 9, up: false };

/** As high as in the page. */
const MARK_PX = 3;

export interface Picture { title: string; lines: string[]; bands: Band[]; marks: StampMark[]; lates: LateBand[]; doubts: DoubtMark[]; notes: string[] }

interface Box { left: number; top: number; width: number; height: number }

function hatch(context: CanvasRenderingContext2D, { left, top, width, height }: Box, look: typeof GAPS): void {
  context.save();
  context.beginPath();
  context.rect(left, top, width, height);
  context.clip();
  context.strokeStyle = colour(look.ink);
  context.lineWidth = look.width;
  context.beginPath();
  for (let x = left - height; x < left + width; x += look.step) {
    context.moveTo(x, look.up ? top + height : top);
    context.lineTo(x + height, look.up ? top : top + height);
  }
  context.stroke();
  context.restore();
}

/** Along the foot where times were corrected, and at the top where readings were left out: those with a bad one whole, others broken. */
function drawMarks(context: CanvasRenderingContext2D, plot: uPlot, marks: StampMark[], doubts: DoubtMark[]): void {
  const ratio = plot.ctx.canvas.width / plot.width;
  const [left, top, height] = [plot.bbox.left / ratio, plot.bbox.top / ratio, plot.bbox.height / ratio];
  const stretch = (one: { from: number; to: number }): [number, number] => {
    const from = plot.valToPos(one.from, 'x');
    return [left + from, Math.max(MARK_PX, plot.valToPos(one.to, 'x') - from)];
  };
  context.lineWidth = MARK_PX;
  const line = ([from, width]: [number, number], y: number, ink: string, dash: number[]): void => {
    context.strokeStyle = colour(ink);
    context.setLineDash(dash);
    context.beginPath();
    context.moveTo(from, y);
    context.lineTo(from + width, y);
    context.stroke();
  };
  for (const mark of marks) line(stretch(mark), top + height - MARK_PX / 2, '--warn', []);
  for (const mark of doubts) line(stretch(mark), top + MARK_PX / 2, isBad(mark) ? '--bad' : '--warn', isBad(mark) ? [] : [MARK_PX, MARK_PX]);
  context.setLineDash([]);
}

/** The picture as a file. */
export function pngOf(plot: uPlot, { title, lines, bands, marks, lates, doubts, notes }: Picture): Promise<Blob | null> {
  const ratio = plot.ctx.canvas.width / plot.width;
  const canvas = document.createElement('canvas');
  const told = notes.flatMap((note) => wrapped(note, Math.max(1, Math.floor(plot.width / CHAR_PX))));
  const head = PAD_PX + ROW_PX * (1 + lines.length + told.length);
  canvas.width = Math.ceil((plot.width + 2 * PAD_PX) * ratio);
  canvas.height = Math.ceil((head + plot.height + 2 * PAD_PX) * ratio);
  const context = canvas.getContext('2d');
  if (!context) return Promise.resolve(null);
  context.scale(ratio, ratio);
  context.fillStyle = colour('--surface');
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  context.textBaseline = 'middle';
  const row = (n: number): number => PAD_PX + ROW_PX * (n + 0.5);
  context.fillStyle = colour('--text');
  context.fillText(title, PAD_PX, row(0));
  lines.forEach((line, place) => {
    context.strokeStyle = lineColour(place);
    context.lineWidth = 2;
    context.setLineDash(DASHES[place]);
    context.beginPath();
    context.moveTo(PAD_PX, row(place + 1));
    context.lineTo(PAD_PX + 32, row(place + 1));
    context.stroke();
    context.fillText(line, PAD_PX + 40, row(place + 1));
  });
  context.setLineDash([]);
  told.forEach((note, i) => context.fillText(note, PAD_PX, row(lines.length + 1 + i)));
  context.drawImage(plot.ctx.canvas, PAD_PX, head + PAD_PX, plot.width, plot.height);
  const { left, top, height } = plot.bbox;
  for (const [list, look] of [[lates, LATES], [bands, GAPS]] as const) {
    for (const band of list) {
      const from = plot.valToPos(band.from, 'x');
      const width = Math.max(2, plot.valToPos(band.to, 'x') - from);
      hatch(context, { left: PAD_PX + left / ratio + from, top: head + PAD_PX + top / ratio, width, height: height / ratio }, look);
    }
  }
  context.translate(PAD_PX, head + PAD_PX);
  drawMarks(context, plot, marks, doubts);
  return new Promise((done) => { canvas.toBlob(done, 'image/png'); });
}

/** Hands a file to the browser to be saved. */
export function save(blob: Blob, name: string): void {
  const address = URL.createObjectURL(blob);
  const link = document.createElement('a');
  link.href = address;
  link.download = name;
  link.click();
  // The browser has begun with it by then.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
