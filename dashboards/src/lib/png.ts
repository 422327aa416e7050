// A chart as a picture with what it needs to be read alone: its range, its lines
// by colour and dash, and the gaps, which the page draws over the chart's canvas.
import type uPlot from 'uplot';
import { DASHES, lineColour } from './overlayplot';
import { colour } from './plot';
import type { Band } from './series';

const ROW_PX = 18;
const PAD_PX = 12;
const HATCH_PX = 6;

export interface Picture { title: string; lines: string[]; bands: Band[]; notes: string[] }

function hatch(context: CanvasRenderingContext2D, left: number, top: number, width: number, height: number): void {
  context.save();
  context.beginPath();
  context.rect(left, top, width, height);
  context.clip();
  context.strokeStyle = colour('--gap');
  context.lineWidth = 1.5;
  context.beginPath();
  for (let x = left - height; x < left + width; x += HATCH_PX) {
    context.moveTo(x, top + height);
    context.lineTo(x + height, top);
  }
  context.stroke();
  context.restore();
}

/** The picture as a file. */
export function pngOf(plot: uPlot, { title, lines, bands, notes }: Picture): Promise<Blob | null> {
  const ratio = plot.ctx.canvas.width / plot.width;
  const canvas = document.createElement('canvas');
  const head = PAD_PX + ROW_PX * (1 + lines.length + notes.length);
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
  notes.forEach((note, i) => context.fillText(note, PAD_PX, row(lines.length + 1 + i)));
  context.drawImage(plot.ctx.canvas, PAD_PX, head + PAD_PX, plot.width, plot.height);
  const { left, top, height } = plot.bbox;
  for (const band of bands) {
    const from = plot.valToPos(band.from, 'x');
    hatch(context, PAD_PX + left / ratio + from, head + PAD_PX + top / ratio, Math.max(2, plot.valToPos(band.to, 'x') - from), height / ratio);
  }
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
