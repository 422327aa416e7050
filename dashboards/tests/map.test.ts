import { describe, expect, test } from 'vitest';
import type { MapDevice } from '../src/api/map';
import {
  atScreen, boundsText, fitted, latOf, lonOf, moved, netStep, onScreen, otherView, parseView, scaleOf, sound, unrolled, viewText, windowOf, worldPx, xOf, yOf, ZOOM_MAX, zoomed,
} from '../src/lib/map/mercator';
import { paramsOf } from '../src/api/map';
import { namesWith, siteWith } from '../src/lib/map/names';
import { clicked, clickedPlan, placeOf, shareOf, writtenOf } from '../src/lib/map/placing';

const SIZE = { width: 900, height: 500 };
const near = (a: number, b: number, digits = 6): void => expect(a).toBeCloseTo(b, digits);
const device = (more: Partial<MapDevice>): MapDevice => ({ id: 'a', title: '', site: '', state: 'online', revoked: false, last_reading_ms: null, position: null, spot: null, ...more });

describe('the projection', () => {
  test('finds its way back, and ends where Web Mercator does', () => {
    for (const lat of [-85, -33.9, 0, 48.1374, 85]) near(latOf(yOf(lat)), lat);
    for (const lon of [-180, -70.5, 0, 11.5755, 180]) near(lonOf(xOf(lon)), lon);
    expect([yOf(90), yOf(-90)].map((y) => Number(y.toFixed(9)))).toEqual([0, 1]);
  });

  test('what is on the screen is what is at that point of it, across the 180th meridian too', () => {
    for (const view of [{ x: 0.53, y: 0.35, zoom: 6 }, { x: 0.999, y: 0.55, zoom: 4.3 }, { x: 0.001, y: 0.5, zoom: 12 }]) {
      for (const [left, top] of [[0, 0], [450, 250], [899, 499], [13.5, 410]]) {
        const at = atScreen(view, SIZE, left, top);
        expect(Math.abs(at.lon)).toBeLessThanOrEqual(180);
        const seen = onScreen(view, SIZE, at);
        near(seen.left, left, 3);
        near(seen.top, top, 3);
      }
    }
  });
});

test('a coast goes on beyond the 180th meridian, and one around a pole is closed along it', () => {
  expect(unrolled([[178, 65], [-179, 66], [-178, 64], [179, 63], [178, 65]], true)).toEqual([[178, 65], [181, 66], [182, 64], [179, 63], [178, 65]]);
  expect(unrolled([[-170, -70], [0, -75], [170, -72], [-170, -70]], true)).toEqual([[-170, -70], [0, -75], [170, -72], [190, -70], [190, -90], [-170, -90]]);
  expect(unrolled([[1, 2], [3, 4]], false)).toEqual([[1, 2], [3, 4]]);
});

describe('a view', () => {
  test('shows nothing but the world, whatever it is told', () => {
    for (const view of [{ x: 7.25, y: -3, zoom: -2 }, { x: -0.25, y: 9, zoom: 99 }, { x: Number.NaN, y: Number.NaN, zoom: Number.NaN }]) {
      const shown = sound(view, SIZE);
      expect(worldPx(shown.zoom)).toBeGreaterThanOrEqual(900);
      expect(shown.zoom).toBeLessThanOrEqual(ZOOM_MAX);
      expect(shown.x >= 0 && shown.x < 1).toBe(true);
      const half = SIZE.height / worldPx(shown.zoom) / 2;
      expect(shown.y >= half - 1e-9 && shown.y <= 1 - half + 1e-9).toBe(true);
    }
    near(sound({ x: 7.25, y: 0.5, zoom: 5 }, SIZE).x, 0.25);
  });

  test('keeps what is under the mouse when it zooms, and under the finger when it is dragged', () => {
    const view = { x: 0.53, y: 0.35, zoom: 6 };
    const under = atScreen(view, SIZE, 700, 120);
    const seen = onScreen(zoomed(view, SIZE, 8.5, 700, 120), SIZE, under);
    near(seen.left, 700, 3);
    near(seen.top, 120, 3);
    const after = onScreen(moved(view, SIZE, 40, -25), SIZE, under);
    near(after.left, 740, 3);
    near(after.top, 95, 3);
  });

  test('that is fitted has all of it, also of one place and across the 180th meridian', () => {
    for (const bounds of [{ west: 5.9, south: 45.8, east: 10.5, north: 47.8 }, { west: 170, south: -25, east: -165, north: -10 }, { west: -179, south: -60, east: 179, north: 70 }]) {
      const view = fitted(bounds, SIZE);
      const [a, b] = [onScreen(view, SIZE, { lat: bounds.north, lon: bounds.west }), onScreen(view, SIZE, { lat: bounds.south, lon: bounds.east })];
      expect(a.left).toBeGreaterThanOrEqual(-0.001);
      if (bounds.west !== -179) expect(b.left).toBeGreaterThan(a.left);
      expect(b.left).toBeLessThanOrEqual(SIZE.width + 0.001);
    }
    const one = fitted({ west: 11.5, south: 48.1, east: 11.5, north: 48.1 }, SIZE);
    near(lonOf(one.x), 11.5);
    expect(one.zoom).toBe(12);
  });

  test('has a window in degrees, whose west is greater than its east across the 180th meridian', () => {
    const europe = windowOf({ x: xOf(10), y: yOf(50), zoom: 5 }, SIZE);
    expect(europe.west < 10 && europe.east > 10 && europe.south < 50 && europe.north > 50).toBe(true);
    const fiji = windowOf({ x: xOf(179), y: yOf(-17), zoom: 6 }, SIZE);
    expect(fiji.west > 165 && fiji.east < -165).toBe(true);
    expect(windowOf(sound({ x: 0.3, y: 0.5, zoom: 0 }, SIZE), SIZE)).toMatchObject({ west: -180, east: 180 });
    // What is beyond the square is drawn at its edge, and is in the list of what is seen there.
    expect(windowOf(sound({ x: 0.3, y: 0, zoom: 4 }, SIZE), SIZE).north).toBe(90);
    expect(windowOf(sound({ x: 0.3, y: 1, zoom: 4 }, SIZE), SIZE).south).toBe(-90);
    expect(europe.north).toBeLessThan(80);
    expect(boundsText({ west: -1.5, south: 2, east: 3, north: 4 })).toBe('-1.5,2,3,4');
  });

  test('stands in the address as exact as a pixel is, and what is none is none', () => {
    const view = { x: xOf(11.5755), y: yOf(48.1374), zoom: 14.3 };
    const { at, z } = viewText(view);
    const back = parseView(at, z);
    expect(back?.zoom).toBe(14.3);
    expect(Math.abs((back?.x ?? 0) - view.x) * worldPx(view.zoom)).toBeLessThan(1);
    for (const [badAt, badZ] of [[null, '3'], ['1', '3'], ['a,b', '3'], ['91,0', '3'], ['0,181', '3'], ['0,0', '-1'], ['0,0', '40'], ['', ''], [',', '3']]) {
      expect(parseView(badAt, badZ)).toBeNull();
    }
  });

  test('is followed where the address names another one than is shown', () => {
    const shown = { x: xOf(11.57551), y: yOf(48.13742), zoom: 9.04 };
    const { at, z } = viewText(shown);
    expect([otherView(at, z, shown), otherView(` ${at}`, '9', shown), otherView(null, null, shown), otherView('a', '9', shown)]).toEqual([null, null, null, null]);
    expect(otherView('48,7', '9', shown)).toEqual({ x: xOf(7), y: yOf(48), zoom: 9 });
    expect(otherView(at, '10', shown)?.zoom).toBe(10);
  });

  test('has a scale of round metres and a net of round degrees', () => {
    for (const zoom of [0, 3.3, 7, 12.8, 18]) {
      const { metres, px } = scaleOf({ x: 0.5, y: yOf(48), zoom }, 100);
      expect(px).toBeGreaterThan(20);
      expect(px).toBeLessThanOrEqual(100.0001);
      expect([1, 2, 5]).toContain(Number(metres.toExponential()[0]));
      const lines = (netStep(zoom) / 360) * worldPx(zoom);
      expect(lines).toBeGreaterThan(30);
      expect(lines).toBeLessThan(400);
    }
  });
});

describe('placing', () => {
  test('takes what people write, and says what is wrong', () => {
    const written = writtenOf(device({ position: { lat: 48.1374, lon: -11.5, alt_m: 519, source: 'set' }, spot: { x: 0.25, y: 1 } }));
    expect(written).toEqual({ lat: '48.1374', lon: '-11.5', alt: '519', x: '25', y: '100' });
    expect(placeOf(written)).toEqual({ position: { lat: 48.1374, lon: -11.5, alt_m: 519 } });
    expect(placeOf({ ...written, lat: ' 48,5 ', alt: '' })).toEqual({ position: { lat: 48.5, lon: -11.5 } });
    for (const [field, text] of [['lat', '91'], ['lat', ''], ['lon', '-181'], ['lon', 'west'], ['alt', '1e9']] as const) {
      expect(placeOf({ ...written, [field]: text })).toEqual({ bad: field });
    }
    expect(shareOf(written)).toEqual({ spot: { x: 0.25, y: 1 } });
    expect(shareOf({ ...written, y: '101' })).toEqual({ bad: 'share' });
    expect(writtenOf(device({}))).toEqual({ lat: '', lon: '', alt: '', x: '', y: '' });
  });

  test('by a click keeps the height, and a plan ends at its edges', () => {
    const written = { lat: '', lon: '', alt: '519', x: '', y: '' };
    expect(placeOf(clicked(written, { lat: 48.13741234, lon: 11.5 }))).toEqual({ position: { lat: 48.1374123, lon: 11.5, alt_m: 519 } });
    expect(shareOf(clickedPlan(written, { x: -0.2, y: 1.7 }))).toEqual({ spot: { x: 0, y: 1 } });
  });
});

test('names of a board have the values of its variables, and one without a value is any', () => {
  const values = { site: 'north', group: '', device: 'pump-7', any: '*' };
  expect(namesWith(['@site=$site', '@group=$group', '$device', '$any', '$none', 'pump-*', '@site=south'], values))
    .toEqual(['@site=north', '*', 'pump-7', '*', '*', 'pump-*', '@site=south']);
});

test('names with commas are sent so that none is cut, and a site as it is', () => {
  expect(paramsOf({ devices: ['pump-*', '@site=north'] }, {})).toBe('devices=pump-*%2C%40site%3Dnorth');
  const named = new URLSearchParams(paramsOf({ devices: ['@site=Hall A, North', 'North'] }, { limit: 5 }));
  expect([JSON.parse(named.get('devices') ?? ''), named.get('limit')]).toEqual([['@site=Hall A, North', 'North'], '5']);
  expect(new URLSearchParams(paramsOf({ site: 'Hall A, North/2 ' }, {})).get('site')).toBe('Hall A, North/2 ');
});

test('the plan of a board is of its site, or of the one that is chosen', () => {
  expect([siteWith('Halle/2', {}), siteWith('$where', { where: 'north' }), siteWith('$where', { where: '*' }), siteWith('$where', {})]).toEqual(['Halle/2', 'north', null, null]);
});
