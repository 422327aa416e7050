// The app as it lies in dist/ before a real hub: what is changed here can be tried without building the hub anew.
import { readFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { extname, join, normalize } from 'node:path';

const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.json': 'application/json' };
/** As the hub's. */
const CSP = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

async function file(response, folder, path) {
  const named = extname(path) === '' ? '/index.html' : normalize(path);
  const bytes = await readFile(join(folder, named)).catch(() => null);
  response.writeHead(bytes === null ? 404 : 200, { 'content-type': TYPES[extname(named)] ?? 'application/octet-stream', 'content-security-policy': CSP });
  response.end(bytes);
}

/** Where the app of `folder` is served, with the API of the hub at `port`. */
export async function front(folder, port) {
  const server = createServer((asked, answer) => {
    const { pathname } = new URL(asked.url, 'http://front');
    if (!pathname.startsWith('/api/')) return void file(answer, folder, pathname);
    const way = request({ host: '127.0.0.1', port, path: asked.url, method: asked.method, headers: asked.headers }, (found) => {
      answer.writeHead(found.statusCode, found.headers);
      found.pipe(answer);
      // A stream that breaks off there breaks off here.
      found.on('aborted', () => answer.destroy());
    });
    way.on('error', () => answer.destroy());
    answer.on('close', () => way.destroy());
    asked.pipe(way);
  });
  await new Promise((ready) => { server.listen(0, '127.0.0.1', ready); });
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    close: () => { server.closeAllConnections(); server.close(); },
  };
}
