// What the pages say, in English. Another language is another file of this shape;
// `src/texts/index.ts` names the one in use. Pages made before it have their texts still beside their markup.

export const en = {
  frame: {
    pages: 'Pages',
    fleet: 'Fleet',
    explore: 'Explore',
    signOut: 'Sign out',
    skip: 'Skip to content',
    theme: 'Theme',
    themes: { system: 'System', light: 'Light', dark: 'Dark' },
  },
  time: {
    control: 'Time',
    range: 'Range',
    earlier: 'Earlier by half of the range',
    later: 'Later by half of the range',
    zoomOut: 'Zoom out to twice the range',
    custom: 'Custom…',
    back: (range: string) => `Back to ${range === 'all' ? 'all' : `last ${range}`}`,
    zone: 'Time zone',
    zones: { browser: (name: string) => `Browser (${name})`, utc: 'UTC' },
    pause: 'Pause',
    resume: 'Resume',
    standsStill: (at: string) => `Stands still as of ${at}`,
    last: 'Last',
    lastHint: 'as 90s, 15m, 6h, 3d, 2w',
    from: 'From',
    to: 'To',
    show: 'Show',
    badLength: 'Write a number with s, m, h, d or w behind it, as 15m; 1s to 20 years.',
    badMoments: 'Give both moments, the second one later than the first.',
  },
} as const;

export type Texts = typeof en;
