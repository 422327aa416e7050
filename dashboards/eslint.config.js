import svelte from 'eslint-plugin-svelte';
import globals from 'globals';
import ts from 'typescript-eslint';
import svelteConfig from './svelte.config.js';

export default ts.config(
  { ignores: ['dist/', 'node_modules/', 'src/api/types.ts'] },
  ...ts.configs.recommended,
  ...svelte.configs.recommended,
  {
    files: ['**/*.svelte', '**/*.svelte.ts'],
    languageOptions: { parserOptions: { parser: ts.parser, extraFileExtensions: ['.svelte'], svelteConfig } },
  },
  { languageOptions: { globals: { ...globals.browser } } },
  { files: ['e2e/**', 'scripts/**', '*.config.*'], languageOptions: { globals: { ...globals.node } } },
  {
    rules: {
      // Types find what is not defined, in Svelte's files too.
      'no-undef': 'off',
      '@typescript-eslint/no-explicit-any': 'error',
      'no-console': 'error',
      // `void x` says that x is looked at for its changes.
      '@typescript-eslint/no-unused-expressions': ['error', { allowShortCircuit: false }],
      // The address is a hash without a router of SvelteKit's.
      'svelte/no-navigation-without-resolve': 'off',
      // Plain maps that nothing reacts to.
      'svelte/prefer-svelte-reactivity': 'off',
    },
  },
  { files: ['e2e/**', 'scripts/**'], rules: { 'no-console': 'off' } },
);
