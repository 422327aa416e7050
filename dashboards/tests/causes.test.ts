import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { causesText, causeText, droppedBy } from '../src/lib/causes';

describe('why readings were dropped', () => {
  it('has words for every cause that the API names', () => {
    const api = JSON.parse(readFileSync('openapi.json', 'utf8'));
    const named: string = api.components.schemas.Ledger.properties.dropped_by.description;
    const causes = [...named.matchAll(/`([a-z_]+)`/g)].map((match) => match[1]);
    expect(causes).toHaveLength(8);
    for (const cause of causes) expect(causeText(cause), cause).not.toBe(cause);
  });

  it('keeps a cause that it does not know', () => {
    expect(causesText(['quota', 'meteorite'])).toBe('the spool’s quota was used up; meteorite');
  });

  it('lists the sums of the ledger, the greatest first and nothing that is zero', () => {
    expect(droppedBy({ quota: 7, expired: 0, disk_full: 1200 })).toEqual([
      '1\u202f200: the disk was full',
      '7: the spool’s quota was used up',
    ]);
    expect(droppedBy({})).toEqual([]);
  });
});
