// The ends of bands in a chart: lines across it, dashed by what they mean, with labels at its right edge.
import uPlot from 'uplot';
import type { Level } from '../api/boards';
import { spread, type Limit } from './boards/limits';
import { axisFont, colour } from './plot';

/** Beside the colours. */
const DASHES: Record<Level, number[]> = { ok: [], warn: [7, 4], bad: [2, 3] };
const LABEL_PX = 13;
const PAD_PX = 3;

/** Those that the axis shows, from the top. */
function visible(plot: uPlot, scale: string, limits: Limit[]): Limit[] {
  const { min, max } = plot.scales[scale] ?? {};
  if (min === undefined || min === null || max === undefined || max === null) return [];
  return limits.filter(({ at }) => at >= min && at <= max).sort((a, b) => b.at - a.at);
}

/** Beneath the lines of readings. */
export function drawLimits(plot: uPlot, scale: string, limits: Limit[]): void {
  const { ctx, bbox } = plot;
  const ratio = uPlot.pxRatio;
  for (const { at, level } of visible(plot, scale, limits)) {
    const y = plot.valToPos(at, scale, true);
    ctx.save();
    ctx.strokeStyle = colour(`--${level}`);
    ctx.lineWidth = ratio;
    ctx.setLineDash(DASHES[level].map((length) => length * ratio));
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    ctx.restore();
  }
}

/** Over them, on a ground of their own, and none over another. */
export function drawLabels(plot: uPlot, scale: string, limits: Limit[]): void {
  const { ctx, bbox } = plot;
  const ratio = uPlot.pxRatio;
  const shown = visible(plot, scale, limits);
  const end = bbox.top + bbox.height - (LABEL_PX * ratio) / 2;
  const places = spread(shown.map(({ at }) => plot.valToPos(at, scale, true)), LABEL_PX * ratio, end);
  ctx.save();
  ctx.font = axisFont().replace(/^\d+/, (size) => String(Number(size) * ratio));
  ctx.textAlign = 'right';
  ctx.textBaseline = 'middle';
  shown.forEach(({ text }, i) => {
    const right = bbox.left + bbox.width - PAD_PX * ratio;
    const width = ctx.measureText(text).width + 2 * PAD_PX * ratio;
    ctx.globalAlpha = 0.8;
    ctx.fillStyle = colour('--surface');
    ctx.fillRect(right - width + PAD_PX * ratio, places[i] - (LABEL_PX * ratio) / 2, width, LABEL_PX * ratio);
    ctx.globalAlpha = 1;
    ctx.fillStyle = colour('--text');
    ctx.fillText(text, right, places[i]);
  });
  ctx.restore();
}
