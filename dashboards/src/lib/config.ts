// Pure: an agent's configuration as rows: what is in force with where it comes from, and what the hub wants of it.
import type { DeviceConfig } from '../api/config';
import { typed } from './twin';

export const SOURCES = ['default', 'file', 'environment', 'hub', 'flag'] as const;
export type Source = (typeof SOURCES)[number];

export interface Wanted {
  value: unknown;
  /** `device`, or a template's name. */
  source: string;
  author: string;
  at: number | null;
}

export interface Option {
  /** Its name, with a number behind it where others have the same: sources without names do. */
  id: string;
  name: string;
  /** In force; undefined where that is not known. */
  value: unknown;
  source: Source | null;
  /** The variable, the flag, or who set it at the hub. */
  from: string;
  wanted: Wanted | null;
  /** Whether something is wanted and another value is in force. */
  differs: boolean;
}

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

/** All options by name: those in force, and those that the hub wants and that are not. */
export function optionsOf(config: DeviceConfig): Option[] {
  const wanted = new Map(config.values.map((one): [string, Wanted] => [one.option, { value: one.value, source: one.source, author: one.author, at: one.time_ms ?? null }]));
  const told = config.in_force?.options ?? [];
  const inForce = config.in_force != null;
  const all = told.map(({ option, value, source, from }): Option => {
    const own = wanted.get(option) ?? null;
    return { id: option, name: option, value, source: SOURCES.find((one) => one === source) ?? null, from: from ?? '', wanted: own, differs: own !== null && !same(own.value, value) };
  });
  const known = new Set(told.map(({ option }) => option));
  const named = told.map(({ option }) => `${option}.`);
  for (const [name, own] of wanted) {
    // A list that is one option at the agent may be several leaves here, and an item that is taken away is none of its options.
    if (known.has(name) || named.some((above) => name.startsWith(above))) continue;
    const isGone = own.value === false && inForce && !named.some((option) => option.startsWith(`${name}.`));
    all.push({ id: name, name, value: undefined, source: null, from: '', wanted: own, differs: inForce && !isGone });
  }
  const times = new Map<string, number>();
  return all.sort((a, b) => (a.name === b.name ? 0 : a.name < b.name ? -1 : 1)).map((option) => {
    const n = (times.get(option.name) ?? 0) + 1;
    times.set(option.name, n);
    return n === 1 ? option : { ...option, id: `${option.name}#${n}` };
  });
}

export type Choice = 'set' | 'all' | Source;

/** Options that a text and a choice of sources mean; `set` is all that somebody set or wants. */
export function shownOptions(all: Option[], text: string, choice: Choice): Option[] {
  const words = text.toLowerCase().split(/\s+/).filter((word) => word !== '');
  const isChosen = ({ source, wanted }: Option): boolean => choice === 'all' || (choice === 'set' ? source !== 'default' || wanted !== null : source === choice);
  return all.filter((option) => isChosen(option) && words.every((word) => `${option.name} ${option.from}`.toLowerCase().includes(word)));
}

/** Where the layer has an option: names of items, which may hold dots, stand between the section and the option. */
export function pathOf(name: string): string[] {
  const parts = name.split('.');
  return parts.length < 4 ? parts : [parts[0], parts.slice(1, -1).join('.'), parts[parts.length - 1]];
}

/** Whether the hub can want another value of it: items without a name have no place in its layer. */
export function isNamed(name: string): boolean {
  return pathOf(name).every((part) => part !== '');
}

/** A value as a field holds it: a text as it is, all else as JSON. */
export function fieldOf(value: unknown): string {
  return value === undefined ? '' : typeof value === 'string' ? value : JSON.stringify(value);
}

/** What was typed for an option; one that holds a text takes numbers and words of JSON for texts. */
export function valueOf(text: string, was: unknown): unknown {
  return typeof was === 'string' ? text : typed(text);
}
