// Pure: a text as a QR code.
import { encodeQR } from 'qr';

export interface QrShape {
  /** Modules of a side, the quiet zone among them. */
  size: number;
  /** The dark modules, as what goes into the `d` of a path. */
  path: string;
}

/** The code of a text; the lowest correction, as a screen is clean and a token long. */
export function qrShape(text: string): QrShape {
  const rows = encodeQR(text, 'raw', { ecc: 'low', border: 4 });
  let path = '';
  rows.forEach((row, y) => {
    for (let x = 0; x < row.length; x += 1) {
      if (!row[x]) continue;
      const from = x;
      while (row[x + 1]) x += 1;
      path += `M${from} ${y}h${x - from + 1}v1h-${x - from + 1}z`;
    }
  });
  return { size: rows.length, path };
}
