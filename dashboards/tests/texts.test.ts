import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'svelte/compiler';
import { describe, expect, it } from 'vitest';

const SOURCES = join(import.meta.dirname, '../src');
/** Names, units, and what is typed as it stands. */
const AS_THEY_ARE = ['Tideline', '· Tideline', 'CSV', 'Parquet', 'SQL', 'cloud-hub enroll-token create --device ID', 'edge-agent run', 'motor/speed'];
const READ_OUT = ['title', 'aria-label', 'aria-description', 'aria-valuetext', 'placeholder', 'alt', 'label'];

/** Each component is parsed: that takes seconds where much else runs. */
const LONG_MS = 60_000;

type Node = Record<string, unknown>;

/** What a component's markup says by itself: its texts, and those of attributes that are read by people. */
function saidBy(source: string): string[] {
  const said: string[] = [];
  const walk = (node: unknown, attribute: string | null): void => {
    if (Array.isArray(node)) for (const one of node) walk(one, attribute);
    if (Array.isArray(node) || typeof node !== 'object' || node === null) return;
    const { type, name, data } = node as Node;
    if (type === 'Text' && (attribute === null || READ_OUT.includes(attribute)) && /\p{L}{2}/u.test(String(data))) said.push(String(data).trim());
    const within = type === 'Attribute' || type === 'StyleDirective' ? String(name) : attribute;
    for (const [key, value] of Object.entries(node)) if (key !== 'parent') walk(value, within);
  };
  walk(parse(source, { modern: true }).fragment, null);
  return said.filter((text) => !AS_THEY_ARE.includes(text));
}

describe('texts', () => {
  it('stand in src/texts and not in the markup, so that another language is another file', () => {
    const files = readdirSync(SOURCES, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.svelte'));
    expect(files.length).toBeGreaterThan(30);
    const found = files.flatMap((file) => saidBy(readFileSync(join(SOURCES, file), 'utf8')).map((text) => `${file}: ${text}`));
    expect(found).toEqual([]);
  }, LONG_MS);

  it('are found where they stand in the markup', () => {
    expect(saidBy('<p title="Over there">{name} is here</p><i style:width="{n}px" class="big red">{`${n} %`}</i>')).toEqual(['Over there', 'is here']);
  });
});
