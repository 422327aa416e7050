// Why readings are missing, doubtful or have other times than their device gave them.

export const honest = {
  /** Why readings were dropped: for gaps and for the sums of the ledger. */
  dropped: {
    quota: 'the spool’s quota was used up',
    expired: 'older than they are to be kept',
    damaged: 'stored, but could not be read back',
    flash: 'the day’s budget of flash writes was used up',
    disk_full: 'the disk was full',
    downsampled: 'thinned out to make room',
    superseded: 'newer ones of the same series took their place',
    unknown: 'the hub was not told why',
  } as Record<string, string>,
  missing: {
    offline: 'its agent is not connected',
    backlog: 'its agent still holds readings',
    damaged: 'a damaged file is not refilled yet',
  },
  missingOf: (device: string, cause: string) => `${device}: ${cause}`,
  completeUntil: (text: string, at: string) => `${text}; complete until ${at}`,
  maybe: 'Readings of this range may be missing.',
  asOf: {
    at: (at: string) => `as of ${at}`,
    cut: (ago: string) => `stale: ${ago}, reconnecting`,
    old: (ago: string) => `stale: ${ago}`,
  },
  thinned: (at: string) => `Readings up to ${at} are past their retention: what is left of their minutes, hours or days is drawn.`,
  uncertain: 'uncertain: the device’s clock was wrong, nobody knows by how much',
  corrected: (by: string) => `corrected by ${by}`,
  otherShifts: (n: number) => `and ${n} other corrections`,
  times: (text: string, range: string) => `Times ${text}\n${range}`,
  late: {
    title: (n: number, rows: string, delay: string, times: string, came: string) =>
      `Came late: ${n === 1 ? '1 reading' : `${rows} readings`} of ${times}, up to ${delay} after ${n === 1 ? 'its' : 'their'} time\nNewer ones were there already; came ${came}`,
    of: (rows: string, device: string, delay: string) => `${rows} of ${device}, up to ${delay}`,
    note: (text: string) => `Came late and is in the lines, hatched in grey the other way: ${text}.`,
    grey: 'Hatched in grey the other way: readings that came late.',
  },
  leftOut: (text: string, range: string) => `Left out of the line: ${text}\n${range}`,
} as const;
