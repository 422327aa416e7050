// Pure: what commands of a profile take, what they become, and what is asked before one is sent.
import type { DeviceProfile, ProfileCommand } from '../api/profile';
import { texts } from '../texts';
import { typed } from './twin';

const said = texts.commands;

export interface Order { kind: string; input: Record<string, unknown> }
/** What is asked before something is sent. */
export interface Question { title: string; lines: string[] }

/** Whether a command takes a value: its only one, or one in its range. */
function takes(command: ProfileCommand, value: unknown): boolean {
  if (command.value !== null && command.value !== undefined) return command.value === value || Number(command.value) === Number(value);
  if (typeof value !== 'number') return true;
  return (command.min == null || value >= command.min) && (command.max == null || value <= command.max);
}

/** The commands that would take what an order writes; none of an order that writes nothing. */
export function taking(commands: ProfileCommand[], order: Order): ProfileCommand[] {
  if (order.kind !== 'write') return [];
  const { point, value } = order.input;
  return commands.filter((one) => one.point === point && takes(one, value));
}

/** What a command of a profile writes, with the value that was typed for one that has none of its own. */
export function writeOf(command: ProfileCommand, text: string): Order {
  const own = command.value;
  const value = own !== null && own !== undefined ? own : command.kind === 'text' ? text : typed(text);
  return { kind: 'write', input: { point: command.point, value } };
}

/** What is asked before an order is sent to a device; nothing where its profile asks for nothing. */
export function questionOf(commands: ProfileCommand[], order: Order, device: string): Question | null {
  const asking = taking(commands, order).filter((one) => one.confirm);
  if (asking.length === 0) return null;
  const unit = asking[0].unit === '' || asking[0].unit === '1' ? '' : ` ${asking[0].unit}`;
  const written = said.writes(device, asking[0].point, `${String(order.input.value)}${unit}`);
  const locks = asking.flatMap((one) => one.interlocks).map((lock) => said.onlyWhile(lock));
  return { title: asking.map((one) => one.title).join(' · '), lines: [written, ...locks] };
}

/** What a command takes, in words. */
export function rangeOf(command: ProfileCommand): string {
  const unit = command.unit === '' || command.unit === '1' ? '' : ` ${command.unit}`;
  if (command.min != null && command.max != null) return said.between(`${command.min}`, `${command.max}${unit}`);
  if (command.min != null) return said.from(`${command.min}${unit}`);
  if (command.max != null) return said.upTo(`${command.max}${unit}`);
  return unit.trim();
}

/** What is told where hub and agent do not have the same profile. */
export function strangeOf(profile: DeviceProfile | null): string {
  if (profile === null) return '';
  if (profile.origin === 'unknown') return said.profileUnknown(profile.profile);
  return profile.agreement === 'other' ? said.profileOther(profile.profile) : '';
}
