// Pure: what a form of a command becomes, and what is told of a command.
import type { Command, CommandPhase } from '../api/commands';
import type { ProfileCommand } from '../api/profile';
import { writeOf, type Order } from './profilecommands';
import { typed } from './twin';

export const KINDS = ['sync', 'logs', 'write', 'reload', 'restart', 'other'] as const;
export type Kind = (typeof KINDS)[number];

/** `kind` is one that each agent knows, or `profile` for the command of that name of the device's profile. */
export interface Form { kind: Kind | 'profile'; command: string; point: string; value: string; lines: number; otherKind: string; input: string; within: '60' | '3600' | '86400' | '604800' }
export const EMPTY: Form = { kind: 'sync', command: '', point: '', value: '', lines: 200, otherKind: '', input: '{}', within: '3600' };

/** What makes a command that is sent twice the same one. */
export function freshKey(): string {
  return crypto.getRandomValues(new Uint32Array(4)).join('-');
}

/** Phases that nothing follows. */
const FINAL = new Set<CommandPhase>(['succeeded', 'failed', 'cancelled', 'expired']);

export function isFinal(phase: CommandPhase): boolean {
  return FINAL.has(phase);
}

/** The kind and input of a filled form; null where the input is no JSON object. */
export function orderOf(form: Form, commands: ProfileCommand[] = []): Order | null {
  switch (form.kind) {
    case 'profile': {
      const command = commands.find((one) => one.name === form.command);
      return command === undefined ? null : writeOf(command, form.value);
    }
    case 'write': return { kind: 'write', input: { point: form.point.trim(), value: typed(form.value) } };
    case 'logs': return { kind: 'logs', input: { lines: form.lines } };
    case 'other': {
      const input = typed(form.input.trim() === '' ? '{}' : form.input);
      const isObject = typeof input === 'object' && input !== null && !Array.isArray(input);
      return isObject ? { kind: form.otherKind.trim(), input: input as Record<string, unknown> } : null;
    }
    default: return { kind: form.kind, input: {} };
  }
}

/** What a command was given, or what came of it, in one line; nothing of an empty object. */
export function brief(value: unknown, most = 80): string {
  if (value === null || value === undefined) return '';
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  if (text === '{}') return '';
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** Whether something of one of them may still change. */
export function anyOpen(commands: Command[]): boolean {
  return commands.some((command) => !isFinal(command.state));
}

/** Of questions for the log that follow each other only the newest: who follows a log asks each few seconds. What has failed or not ended stays. */
export function folded<T extends Pick<Command, 'kind' | 'state'>>(commands: T[]): T[] {
  const isDone = (one: T | undefined): boolean => one !== undefined && one.kind === 'logs' && one.state === 'succeeded';
  return commands.filter((one, i) => !isDone(one) || !isDone(commands[i - 1]));
}
