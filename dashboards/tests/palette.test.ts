// The colours of lines as eyes see them that lack one kind of cone: by the matrices of Machado, Oliveira and Fernandes (2009) for the
// whole lack, over linear RGB, and how far they are apart by CIEDE2000.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, test } from 'vitest';
import { LINES_MAX } from '../src/lib/overlay';
import { DASHES } from '../src/lib/overlayplot';

type Three = [number, number, number];
/** Any two colours are as far apart to all eyes; 2.3 can just be told beside each other, and thin lines need several times that. */
const APART_MIN = 14;
/** WCAG 2.2, 1.4.11: what is drawn to be understood. */
const CONTRAST_MIN = 3;

const EYES: Record<string, Three[]> = {
  all: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  protan: [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  deutan: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  tritan: [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
};
const XYZ: Three[] = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]];
const WHITE: Three = [0.95047, 1, 1.08883];

const times = (m: Three[], v: Three): Three => m.map((row) => row[0] * v[0] + row[1] * v[1] + row[2] * v[2]) as Three;
const linear = (hex: string): Three => [1, 3, 5].map((i) => Number.parseInt(hex.slice(i, i + 2), 16) / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)) as Three;

function lab(hex: string, eyes: Three[]): Three {
  const seen = times(eyes, linear(hex)).map((c) => Math.min(1, Math.max(0, c))) as Three;
  const [x, y, z] = times(XYZ, seen).map((c, i) => c / WHITE[i]).map((t) => (t > 216 / 24389 ? Math.cbrt(t) : ((24389 / 27) * t + 16) / 116));
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

const rad = (degrees: number): number => (degrees * Math.PI) / 180;

/** CIEDE2000. */
function apart([l1, a1, b1]: Three, [l2, a2, b2]: Three): number {
  const near = (c: number): number => Math.sqrt(c ** 7 / (c ** 7 + 25 ** 7));
  const stretch = 1 + 0.5 * (1 - near((Math.hypot(a1, b1) + Math.hypot(a2, b2)) / 2));
  const [c1, c2] = [Math.hypot(a1 * stretch, b1), Math.hypot(a2 * stretch, b2)];
  const hue = (a: number, b: number): number => ((Math.atan2(b, a * stretch) * 180) / Math.PI + 360) % 360;
  const [h1, h2] = [hue(a1, b1), hue(a2, b2)];
  const turn = c1 * c2 === 0 ? 0 : ((h2 - h1 + 540) % 360) - 180;
  const [l, c, h] = [(l1 + l2) / 2, (c1 + c2) / 2, c1 * c2 === 0 ? h1 + h2 : h1 + turn / 2];
  const t = 1 - 0.17 * Math.cos(rad(h - 30)) + 0.24 * Math.cos(rad(2 * h)) + 0.32 * Math.cos(rad(3 * h + 6)) - 0.2 * Math.cos(rad(4 * h - 63));
  const light = (l2 - l1) / (1 + (0.015 * (l - 50) ** 2) / Math.sqrt(20 + (l - 50) ** 2));
  const chroma = (c2 - c1) / (1 + 0.045 * c);
  const round = (2 * Math.sqrt(c1 * c2) * Math.sin(rad(turn / 2))) / (1 + 0.015 * c * t);
  const blue = (((h + 360) % 360) - 275) / 25;
  const bent = -2 * near(c) * Math.sin(rad(60 * Math.exp(-blue * blue)));
  return Math.sqrt(light ** 2 + chroma ** 2 + round ** 2 + bent * chroma * round);
}

function contrast(one: string, other: string): number {
  const [dark, bright] = [one, other].map((hex) => times(XYZ, linear(hex))[1]).sort((a, b) => a - b);
  return (bright + 0.05) / (dark + 0.05);
}

const css = readFileSync(join(import.meta.dirname, '../src/styles/base.css'), 'utf8');
const [light, dark] = css.split(":root[data-theme='dark']");
const property = (part: string, name: string): string => new RegExp(`--${name}: (#[0-9a-f]{6});`).exec(part)?.[1] ?? '';

test('colours are measured as the makers of the measure do', () => {
  // From the test data of Sharma, Wu and Dalal (2005).
  expect(apart([50, 2.6772, -79.7751], [50, 0, -82.7485])).toBeCloseTo(2.0425, 4);
  expect(apart([60.2574, -34.0099, 36.2677], [60.4626, -34.1751, 39.4387])).toBeCloseTo(1.2644, 4);
  expect(apart([50, -0.001, 2.49], [50, 0.0011, -2.49])).toBeCloseTo(4.7461, 4);
  expect(contrast('#000000', '#ffffff')).toBeCloseTo(21);
  // Red and green of one brightness: nobody whose eyes lack a cone for them can tell them apart.
  expect(apart(lab('#b0303a', EYES.all), lab('#6b6a00', EYES.all))).toBeGreaterThan(40);
  expect(apart(lab('#b0303a', EYES.deutan), lab('#6b6a00', EYES.deutan))).toBeLessThan(APART_MIN);
});

describe.each([['light', light], ['dark', dark]])('the lines of the %s theme', (_, part) => {
  const colours = Array.from({ length: LINES_MAX }, (__, i) => property(part, `series-${i}`));

  it.each(Object.keys(EYES))('are told apart by their colours: %s eyes', (eyes) => {
    const seen = colours.map((hex) => lab(hex, EYES[eyes]));
    for (let i = 0; i < seen.length; i += 1) for (let j = 0; j < i; j += 1) expect(apart(seen[i], seen[j]), `${colours[i]} and ${colours[j]}`).toBeGreaterThan(APART_MIN);
  });

  it('stand out from what is behind them', () => {
    for (const hex of colours) for (const ground of ['bg', 'surface']) expect(contrast(hex, property(part, ground)), hex).toBeGreaterThan(CONTRAST_MIN);
  });
});

test('lines are told apart by their dashes too', () => {
  expect(new Set(DASHES.map((dash) => dash.join(' '))).size).toBe(LINES_MAX);
});
