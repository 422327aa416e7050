// Commands for devices.
import { call, getJson, post } from './client';
import type { components } from './types';

type Schemas = components['schemas'];
export type Command = Schemas['CommandInfo'];
export type CommandAnswer = Schemas['CommandAnswer'];
export type CommandPhase = Command['state'];
export type CommandResult = Schemas['CommandResult'];
export interface NewCommand { kind: string; input: Record<string, unknown>; within_s: number; correlation_id?: string }

/** The newest commands of a device. */
export async function commands(device: string, limit: number, signal?: AbortSignal): Promise<{ commands: Command[]; more: boolean }> {
  const page = await getJson<Schemas['CommandPage']>(`/devices/${encodeURIComponent(device)}/commands?limit=${limit}`, signal);
  return { commands: page.commands, more: Boolean(page.next) };
}

/** Commands of all devices that fit, the newest first; what is asked for stands in `params` as the hub names it. */
export async function allCommands(params: Record<string, string>, limit: number, cursor: string | null, signal?: AbortSignal): Promise<{ commands: Command[]; next: string | null }> {
  const query = new URLSearchParams({ ...params, limit: String(limit), ...(cursor === null ? {} : { cursor }) });
  const page = await getJson<Schemas['CommandPage']>(`/commands?${query.toString()}`, signal);
  return { commands: page.commands, next: page.next ?? null };
}

/** Gives each of some devices the same command; tells what became of it for each. The key makes it the same one when it is sent again. */
export async function sendEach(devices: string[], key: string, command: NewCommand, signal?: AbortSignal): Promise<CommandResult[]> {
  const answer = await post('/commands', { devices, command }, 'application/json', signal, { 'idempotency-key': key });
  return ((await answer.json()) as Schemas['CommandResults']).results;
}

/** A command with its output as far as it came. */
export function command(id: string, signal?: AbortSignal): Promise<CommandAnswer> {
  return getJson<CommandAnswer>(`/commands/${encodeURIComponent(id)}`, signal);
}

/** Gives a device a command. The key makes it the same one when the answer is lost and it is sent again. */
export async function send(device: string, key: string, body: NewCommand): Promise<Command> {
  const headers = { 'content-type': 'application/json', 'idempotency-key': key };
  const answer = await call(`/devices/${encodeURIComponent(device)}/commands`, { method: 'POST', headers, body: JSON.stringify(body) });
  return (await answer.json()) as Command;
}

/** Ends a command, or asks for it. */
export async function cancel(id: string): Promise<void> {
  await call(`/commands/${encodeURIComponent(id)}/cancel`, { method: 'POST' });
}
