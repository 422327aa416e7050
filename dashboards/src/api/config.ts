// Configuration of agents, and the templates that groups and sites have.
import { call, getJson, patchTwin } from './client';
import type { components } from './types';

type Schemas = components['schemas'];
/** A value is any JSON, which the description of the API has no word for. */
type Valued<T> = Omit<T, 'value'> & { value: unknown };
export interface InForce { told_ms: number; left_out: number; options: { option: string; value: unknown; source: string; from: string | null }[] }
export type DeviceConfig = Omit<Schemas['DeviceConfig'], 'values' | 'in_force'> & {
  values: Valued<Schemas['ConfigValue']>[];
  /** None of an agent that has not told it. */
  in_force?: InForce | null;
};
export type ConfigTemplate = Schemas['ConfigTemplate'];
/** What came of a template at one agent; `detail` says why it was refused. */
export type TemplateResult = Schemas['TwinPatched'];

/** What is wanted of an agent's configuration, and what is in force. */
export function deviceConfig(id: string, signal?: AbortSignal): Promise<DeviceConfig> {
  return getJson<DeviceConfig>(`/devices/${encodeURIComponent(id)}/config`, signal);
}

/** Wants a value of one option, by its path; null takes back what was wanted. */
export function setOption(id: string, path: string[], value: unknown): Promise<void> {
  return patchTwin(id, 'desired', ['config', ...path].reduceRight<unknown>((inner, name) => ({ [name]: inner }), value) as Record<string, unknown>);
}

/** The templates that there are, without their layers. */
export async function templates(signal?: AbortSignal): Promise<ConfigTemplate[]> {
  return (await getJson<Schemas['ConfigTemplates']>('/config-templates', signal)).templates;
}

function pathOf(name: string): string {
  const at = name.indexOf('/');
  return `/config-templates/${name.slice(0, at)}/${encodeURIComponent(name.slice(at + 1))}`;
}

/** A template with its layers, by its name as `group/pumps`. */
export function template(name: string, signal?: AbortSignal): Promise<ConfigTemplate> {
  return getJson<ConfigTemplate>(pathOf(name), signal);
}

/** What came of a template at each agent, and what of it is of no effect. */
export interface TemplateDone { results: TemplateResult[]; warnings: string[] }

/** Sets a template; where no agent takes it, that is an error. */
export async function putTemplate(name: string, layer: Record<string, unknown>): Promise<TemplateDone> {
  const answer = await call(pathOf(name), { method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ layer }) });
  const { results, warnings } = (await answer.json()) as Schemas['ConfigTemplateApplied'];
  return { results, warnings: warnings ?? [] };
}

/** Removes a template, and takes back what came of it; tells that of each agent. */
export async function removeTemplate(name: string): Promise<TemplateDone> {
  const answer = await call(pathOf(name), { method: 'DELETE' });
  return { results: ((await answer.json()) as Schemas['TwinsPatched']).results, warnings: [] };
}
