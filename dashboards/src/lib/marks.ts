// Pure: what operators say of a device, as a form and as what changes by it.
import type { MarksPatch } from '../api/marks';

export interface Tag { key: string; value: string }
export interface Marks { title: string; site: string; groups: string[]; tags: Record<string, string> }
/** Groups stand with commas between them. */
export interface MarksForm { title: string; site: string; groups: string; tags: Tag[] }

export function formOf({ title, site, groups, tags }: Marks): MarksForm {
  return { title, site, groups: groups.join(', '), tags: Object.entries(tags).map(([key, value]) => ({ key, value })) };
}

function listed(text: string): string[] {
  return [...new Set(text.split(',').map((one) => one.trim()).filter((one) => one !== ''))].sort();
}

/** What a filled form changes; of what stays as it was, nothing, so that two who change different things do not collide. */
export function patchOf(was: Marks, form: MarksForm): MarksPatch {
  const patch: MarksPatch = {};
  if (form.title.trim() !== was.title) patch.title = form.title.trim() || null;
  if (form.site.trim() !== was.site) patch.site = form.site.trim() || null;
  const groups = listed(form.groups);
  if (groups.join() !== [...was.groups].sort().join()) patch.groups = groups;
  const now = new Map(form.tags.map(({ key, value }): [string, string] => [key.trim(), value.trim()]).filter(([key]) => key !== ''));
  const tags: Record<string, string | null> = {};
  for (const [key, value] of now) if (!Object.hasOwn(was.tags, key) || was.tags[key] !== value) tags[key] = value;
  for (const key of Object.keys(was.tags)) if (!now.has(key)) tags[key] = null;
  if (Object.keys(tags).length > 0) patch.tags = tags;
  return patch;
}

/** A key that stands twice among the tags: only one of its values could be kept. */
export function doubled(tags: Tag[]): string | null {
  const keys = tags.map(({ key }) => key.trim()).filter((key) => key !== '');
  return keys.find((key, i) => keys.indexOf(key) !== i) ?? null;
}
