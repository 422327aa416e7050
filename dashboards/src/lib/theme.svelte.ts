// Light or dark: as the system has it, or as was chosen. Kept for the next visit.
import { keep, kept } from './kept';

export const THEMES = ['system', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];
const KEPT = 'tideline.theme';

class ThemeChoice {
  chosen = $state<Theme>(kept(KEPT, THEMES) ?? 'system');
  #dark = matchMedia('(prefers-color-scheme: dark)');
  #system = $state<'light' | 'dark'>(this.#dark.matches ? 'dark' : 'light');

  constructor() {
    this.#apply();
    this.#dark.addEventListener('change', () => {
      this.#system = this.#dark.matches ? 'dark' : 'light';
      this.#apply();
    });
  }

  /** What the page looks like now. */
  get shown(): 'light' | 'dark' {
    return this.chosen === 'system' ? this.#system : this.chosen;
  }

  choose(theme: Theme): void {
    this.chosen = theme;
    keep(KEPT, theme);
    this.#apply();
  }

  /** Before anything is told of the change: who is told looks up the colours. */
  #apply(): void {
    document.documentElement.dataset.theme = this.shown;
  }
}

export const theme = new ThemeChoice();
