// What a device's page says.

const older = (n: number, text: string) => (n === 1 ? 'and 1 older one' : `and ${text} older ones`);

export const device = {
  board: 'Board',
  told: (at: string) => `Last told ${at}`,
  last: 'Last reading',
  rate: 'Rate/s',
  backlog: 'Backlog',
  late: 'Late',
  lateIs: 'Readings that came when the same point had one of a later minute',
  agent: 'Agent',
  software: 'Software',
  transport: 'Transport',
  facts: { site: 'Site', groups: 'Groups', tags: 'Tags', position: 'Position', made: 'Made by', firmware: 'Firmware', profile: 'Profile', via: 'Read by' },
  tierIs: 'The store answered from this tier',
  incomplete: 'incomplete',
  filter: 'Filter points',
  points: 'Points',
  nothing: 'This device has no readings yet.',
  gaps: { title: 'Gaps', from: 'From', to: 'To', readings: 'Readings', cause: 'Cause', older },
  presence: { title: 'Presence', when: 'When', state: 'State', why: 'Why', changes: 'Changes' },
  ledger: {
    produced: 'Produced', stored: 'Stored', pending: 'Pending', dropped: 'Dropped', refused: 'Refused', balanced: 'Balanced',
    restamped: 'Times corrected', uncertain: 'Times uncertain', duplicates: 'Duplicates ignored', lost: 'Lost', asOf: 'As of',
    droppedBy: (causes: string) => `Dropped ${causes}`,
  },
  ways: {
    title: 'Uplink', of: 'Ways to the hub', inUse: 'in use',
    way: 'Way', address: 'Address', breaker: 'Breaker', failures: 'Failures', wait: 'Back-off', rtt: 'Round trip', loss: 'Loss',
    sum: (switches: number, text: string, full: string, at: string) =>
      `${switches === 1 ? '1 switch' : `${text} switches`}; spool ${full} full; as of ${at}`,
  },
  states: {
    along: (name: string) => `${name}: states along time`,
    newest: (name: string) => `${name}: newest states`,
    none: 'none chosen',
    nothing: 'No readings in this range',
    cut: (from: string, most: string) => `Shown from ${from} on: the range has more than ${most} readings. Zoom in for earlier ones.`,
    state: 'State', since: 'Since', until: 'Until', quality: 'Quality', good: 'good',
    earlier: (n: string) => `and ${n} earlier`,
    after: 'after the range',
    now: 'now',
    several: (n: string) => `${n} states`,
    zoom: (from: string, to: string) => `${from} – ${to}, zoom in to tell them apart`,
    when: (from: string, to: string, lasted: string) => `since ${from} until ${to}, ${lasted}`,
  },
} as const;
