// The sums over the fleet.
import type { Device } from '../api/client';

export interface Totals {
  online: number;
  suspect: number;
  flapping: number;
  offline: number;
  revoked: number;
  rate: number;
  pending: number;
  lost: number;
  unbalanced: number;
}

/** State and rate are each device's own; a ledger is the agent's, shown with every device behind it. */
export function totals(devices: Device[]): Totals {
  const sum = { online: 0, suspect: 0, flapping: 0, offline: 0, revoked: 0, rate: 0, pending: 0, lost: 0, unbalanced: 0 };
  for (const d of devices) {
    if (d.revoked) sum.revoked += 1;
    else if (d.state !== 'never') sum[d.state] += 1;
    sum.rate += d.rate;
    if (d.id !== d.agent) continue;
    sum.pending += d.ledger.pending;
    sum.lost += d.ledger.lost;
    if (!d.ledger.balanced) sum.unbalanced += 1;
  }
  return sum;
}
