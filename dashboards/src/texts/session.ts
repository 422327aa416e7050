// What is said of an agent's session.

export const session = {
  title: 'Session',
  from: 'From',
  certificate: 'Certificate',
  until: (at: string) => `until ${at}`,
  ends: (left: string) => `ends in ${left}; a new enrolment token gives it another`,
  ended: 'has ended: a new enrolment token gives it another',
  token: 'none, it came with a token',
  print: (sha256: string) => `SHA-256 ${sha256}`,
  waiting: 'On their way to the disk',
  batches: (n: number, text: string, bytes: string) => (n === 0 ? 'nothing' : `${n === 1 ? '1 batch' : `${text} batches`}, ${bytes}`),
  credit: 'Credit',
  creditIs: 'How much it may send before earlier readings are durable here',
  left: (bytes: string, most: string) => `${bytes} of ${most}`,
} as const;
