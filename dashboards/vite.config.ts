import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig, type Plugin } from 'vite';

// Where `npm run dev` sends API calls: a hub, or e2e/mock.mjs.
const hub = process.env.TIDELINE_URL ?? 'http://127.0.0.1:8080';

/** Names the app's scripts in the page beside the first one, which asks the hub meanwhile: none of them waits for another. */
const appBesideFirst: Plugin = {
  name: 'app-beside-first',
  transformIndexHtml: {
    order: 'post',
    handler(_page, { bundle }) {
      const chunks = Object.values(bundle ?? {}).filter((one) => one.type === 'chunk');
      const app = chunks.find(({ moduleIds }) => moduleIds.some((id) => id.endsWith('/src/app.ts')));
      if (!app) return [];
      const first = new Set(chunks.filter(({ isEntry }) => isEntry).map(({ fileName }) => fileName));
      const names = [app.fileName, ...app.imports].filter((name) => !first.has(name));
      return names.map((name) => ({ tag: 'link', attrs: { rel: 'modulepreload', crossorigin: true, href: `/${name}` }, injectTo: 'head' }));
    },
  },
};

export default defineConfig({
  plugins: [svelte(), appBesideFirst],
  base: '/',
  build: {
    // Nothing is inlined: the page runs under a policy that allows its own origin only.
    assetsInlineLimit: 0,
    target: 'es2022',
    modulePreload: { polyfill: false },
  },
  // The host stays the page's own: the hub refuses what another origin sends.
  server: { proxy: { '/api': { target: hub, changeOrigin: false } } },
});
