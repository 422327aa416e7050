// Writes .br and .gz beside each compressible file of dist/, so that the hub
// serves them as they are and compresses nothing at run time.
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

const DIST = new URL('../dist', import.meta.url).pathname;
const COMPRESSIBLE = new Set(['.html', '.js', '.css', '.svg', '.json', '.txt']);

const entries = await readdir(DIST, { recursive: true, withFileTypes: true });
for (const entry of entries) {
  if (!entry.isFile() || !COMPRESSIBLE.has(extname(entry.name))) continue;
  const path = join(entry.parentPath ?? entry.path, entry.name);
  const bytes = await readFile(path);
  const br = brotliCompressSync(bytes, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY,
      [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
    },
  });
  await writeFile(`${path}.br`, br);
  await writeFile(`${path}.gz`, gzipSync(bytes, { level: 9 }));
  console.log(`${path.slice(DIST.length + 1)}: ${bytes.length} B, br ${br.length} B`);
}

// What the first view loads: the scripts that the page names. Those of other pages come when they are opened.
const FIRST_VIEW_BYTES_MAX = 170_000;
const page = await readFile(join(DIST, 'index.html'), 'utf8');
const scripts = [...page.matchAll(/(?:src|href)="\/(assets\/[^"]+\.js)"/g)].map((match) => match[1]);
if (scripts.length === 0) throw new Error('index.html names no script');
const sizes = await Promise.all(scripts.map(async (path) => (await readFile(join(DIST, `${path}.br`))).length));
const sum = sizes.reduce((a, b) => a + b, 0);
console.log(`first view: ${sum} B of scripts, of ${FIRST_VIEW_BYTES_MAX} B allowed`);
if (sum > FIRST_VIEW_BYTES_MAX) process.exitCode = 1;
