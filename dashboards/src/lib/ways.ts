// Pure: an agent's ways to the hub: which is in use, and how their figures are written.
import type { Device } from '../api/client';

/** Whether the agent's session is in use, and not only not ended: one whose line was cut ends later than its agent is told as offline. */
export function isInUse({ transport, state, revoked }: Pick<Device, 'transport' | 'state' | 'revoked'>): boolean {
  return transport !== null && state !== 'offline' && state !== 'never' && revoked !== true;
}

/** By what the agent is connected, or was last; null where that is not known. */
export function transportOf({ transport, uplink }: Pick<Device, 'transport' | 'uplink'>): string | null {
  return transport ?? uplink?.ways.find(({ carries }) => carries)?.transport ?? null;
}

/** Milliseconds, with a decimal where they are few. */
export function ms(n: number): string {
  return `${n < 10 && !Number.isInteger(n) ? n.toFixed(1) : Math.round(n)} ms`;
}

/** A share from 0 to 1. */
export function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

/** A part of a whole; nothing is said of a whole that is not known. */
export function share(part: number, whole: number): string {
  return whole > 0 ? percent(part / whole) : '–';
}
