import decodeQR from 'qr/decode.js';
import { describe, expect, it } from 'vitest';
import { qrShape } from '../src/lib/qr';

/** The path as a camera sees it. */
function picture(text: string): { width: number; height: number; data: Uint8Array } {
  const { size, path } = qrShape(text);
  const scale = 4;
  const side = size * scale;
  const data = new Uint8Array(side * side * 4).fill(255);
  for (const [, x, y, length] of path.matchAll(/M(\d+) (\d+)h(\d+)/g)) {
    for (let dy = 0; dy < scale; dy += 1) {
      for (let dx = 0; dx < Number(length) * scale; dx += 1) {
        const at = ((Number(y) * scale + dy) * side + Number(x) * scale + dx) * 4;
        data.fill(0, at, at + 3);
      }
    }
  }
  return { width: side, height: side, data };
}

describe('a QR code', () => {
  it('says what went into it, also when that is as long as a token', () => {
    for (const text of ['edge-agent enroll tle1.abc', `edge-agent enroll ${'eyJoIjoi-_'.repeat(45)}`]) {
      expect(decodeQR(picture(text))).toBe(text);
    }
  });

  it('has a quiet zone of four modules', () => {
    const { size, path } = qrShape('x');
    expect(size).toBe(21 + 8);
    expect(path.startsWith('M4 4h7v1h-7z')).toBe(true);
  });
});
