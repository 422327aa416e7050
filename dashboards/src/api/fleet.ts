// The fleet at a glance.
import { FLEET_FIRST } from '../lib/early';
import { getJson } from './client';
import type { components } from './types';

type Schemas = components['schemas'];
export type FleetAnswer = Schemas['FleetAnswer'];
export type FleetTable = Schemas['FleetTable'];

/** The fleet's figures with their history. */
export function fleet(signal?: AbortSignal): Promise<FleetAnswer> {
  return getJson<FleetAnswer>('/fleet', signal);
}

/** The same with the first devices by id. */
export function fleetFirst(signal?: AbortSignal): Promise<FleetAnswer> {
  return getJson<FleetAnswer>(FLEET_FIRST, signal);
}

/** All devices as a list shows them, by columns. */
export function fleetDevices(signal?: AbortSignal): Promise<FleetTable> {
  return getJson<FleetTable>('/fleet/devices', signal);
}
