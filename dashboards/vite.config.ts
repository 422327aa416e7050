import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

// Where `npm run dev` sends API calls: a hub, or e2e/mock.mjs.
const hub = process.env.TIDELINE_URL ?? 'http://127.0.0.1:8080';

export default defineConfig({
  plugins: [svelte()],
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
