// Pure: what somebody writes of a template of configuration, and for whom it is.
import type { Row } from './fleettable';

export const TEMPLATE_KINDS = ['group', 'site'] as const;
export type TemplateKind = (typeof TEMPLATE_KINDS)[number];
export type Layer = Record<string, unknown>;

/** The hub's name of a template; null where there is none yet. */
export function nameOf(kind: TemplateKind, name: string): string | null {
  return name.trim() === '' ? null : `${kind}/${name.trim()}`;
}

function optionsOf(value: unknown): number {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return 1;
  return Object.values(value).reduce((sum: number, inner) => sum + optionsOf(inner), 0);
}

/** The layer that a text is, with how many options it sets; or what is wrong with it. What it means, the hub knows. */
export function layerOf(text: string): { layer: Layer; options: number } | { wrong: string } {
  let layer: unknown;
  try {
    layer = JSON.parse(text);
  } catch (error) {
    return { wrong: error instanceof Error ? error.message : String(error) };
  }
  if (typeof layer !== 'object' || layer === null || Array.isArray(layer)) return { wrong: '{ … }' };
  return { layer: layer as Layer, options: optionsOf(layer) };
}

/** How many agents have a template: those of its group or at its site. */
export function agentsOf(rows: Row[], name: string): number {
  const at = name.indexOf('/');
  const [kind, of] = [name.slice(0, at), name.slice(at + 1)];
  const isAgent = (row: Row): boolean => row.agent === row.id && row.state !== 'revoked';
  return rows.filter((row) => isAgent(row) && (kind === 'site' ? row.site === of : row.groups.includes(of))).length;
}
