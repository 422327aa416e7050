// What a device's page says, as far as it stands here.

export const device = {
  board: 'Board',
  told: (at: string) => `Last told ${at}`,
} as const;
