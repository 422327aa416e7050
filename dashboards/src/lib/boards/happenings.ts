// What happened to devices, to be marked in charts: when their agents came back, and when what is
// wanted of them was changed.
import * as api from '../../api/client';

export interface Happening { t: number; text: string }
type Mark = 'restarts' | 'configuration';

/** Of each device; one that cannot be asked has nothing to tell, and its readings are shown without. */
export async function happenings(devices: string[], marks: Mark[], signal: AbortSignal): Promise<Happening[]> {
  const nothing = (): Happening[] => [];
  const parts = devices.flatMap((device) => [
    marks.includes('restarts') ? api.deviceEvents(device, signal).then(({ events }) => (
      events.filter(({ change }) => change === 'online').map(({ at_ms }) => ({ t: at_ms, text: `${device} came back` })))).catch(nothing) : [],
    marks.includes('configuration') ? api.twinHistory(device, signal).then((steps) => (
      steps.filter(({ section }) => section === 'desired').map(({ time_ms, key }) => ({ t: time_ms, text: `${device}: ${key} was set` })))).catch(nothing) : [],
  ]);
  const found = (await Promise.all(parts)).flat();
  // Several keys of one moment are one mark each text.
  return [...new Map(found.map((one) => [`${one.t} ${one.text}`, one])).values()].sort((a, b) => a.t - b.t);
}
