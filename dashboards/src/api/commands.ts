// Commands for devices.
import { call, getJson } from './client';
import type { components } from './types';

type Schemas = components['schemas'];
export type Command = Schemas['CommandInfo'];
export type CommandAnswer = Schemas['CommandAnswer'];
export type CommandPhase = Command['state'];
export interface NewCommand { kind: string; input: Record<string, unknown>; within_s: number }

/** The newest commands of a device. */
export async function commands(device: string, limit: number, signal?: AbortSignal): Promise<{ commands: Command[]; more: boolean }> {
  const page = await getJson<Schemas['CommandPage']>(`/devices/${encodeURIComponent(device)}/commands?limit=${limit}`, signal);
  return { commands: page.commands, more: Boolean(page.next) };
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
