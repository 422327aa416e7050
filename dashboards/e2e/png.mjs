// A drawing of some rooms as PNG, made here: nothing to keep and nothing of anybody else's.
import { crc32, deflateSync } from 'node:zlib';

function chunk(name, data) {
  const body = Buffer.concat([Buffer.from(name, 'latin1'), data]);
  const out = Buffer.alloc(body.length + 8);
  out.writeUInt32BE(data.length, 0);
  body.copy(out, 4);
  out.writeUInt32BE(crc32(body), body.length + 4);
  return out;
}

/** Walls around rooms of so many pixels. */
export function rooms(width = 640, height = 400, room = 160) {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  // Eight bits of grey.
  header.set([8, 0, 0, 0, 0], 8);
  const rows = Buffer.alloc(height * (width + 1));
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const isDoor = x % room > 60 && x % room < 90;
      const isWall = (x % room < 3 && y % room < 120) || (y % room < 3 && !isDoor) || x > width - 4 || y > height - 4;
      rows[y * (width + 1) + 1 + x] = isWall ? 70 : 235;
    }
  }
  return Buffer.concat([Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'), chunk('IHDR', header), chunk('IDAT', deflateSync(rows)), chunk('IEND', Buffer.alloc(0))]);
}
