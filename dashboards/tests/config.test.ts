import { describe, expect, it } from 'vitest';
import type { DeviceConfig } from '../src/api/config';
import { fieldOf, isNamed, optionsOf, pathOf, shownOptions, valueOf } from '../src/lib/config';

const config: DeviceConfig = {
  device: 'pump-1', agreed: true, state: 'applied', version: 'v', reason: null, refused: null, needs_restart: [], unwell: [],
  values: [
    { option: 'batch.rows_max', value: 7, source: 'device', author: 'ann', time_ms: 5 },
    { option: 'batch.flush_interval_ms', value: 20, source: 'template group/pumps', author: 'template group/pumps', time_ms: 6 },
    { option: 'source.old', value: false, source: 'device', author: 'ann', time_ms: 7 },
    { option: 'pipeline.p.stages.0', value: 'x', source: 'device', author: 'ann', time_ms: 7 },
  ],
  in_force: {
    told_ms: 9, left_out: 0,
    options: [
      { option: 'spool.quota_mb', value: 64, source: 'environment', from: 'TIDELINE_SPOOL' },
      { option: 'batch.rows_max', value: 7, source: 'hub', from: 'ann' },
      { option: 'batch.flush_interval_ms', value: 10, source: 'default', from: null },
      { option: 'pipeline.p.stages', value: ['x'], source: 'hub', from: 'ann' },
    ],
  },
};

describe('a configuration as rows', () => {
  it('has a row of its own for each of several sources without names', () => {
    const options = ['host', 'replay', 'tail'].map((value) => ({ option: 'source..kind', value, source: 'file', from: null }));
    const all = optionsOf({ ...config, values: [], in_force: { told_ms: 9, left_out: 0, options } });
    expect(all.map(({ id, name, value }) => [id, name, value])).toEqual([['source..kind', 'source..kind', 'host'], ['source..kind#2', 'source..kind', 'replay'], ['source..kind#3', 'source..kind', 'tail']]);
  });

  it('has what is in force beside what is wanted, and tells where they differ', () => {
    const all = optionsOf(config);
    expect(all.map(({ name, source, differs }) => [name, source, differs])).toEqual([
      ['batch.flush_interval_ms', 'default', true], ['batch.rows_max', 'hub', false], ['pipeline.p.stages', 'hub', false],
      ['source.old', null, false], ['spool.quota_mb', 'environment', false],
    ]);
    expect(all[1].wanted).toEqual({ value: 7, source: 'device', author: 'ann', at: 5 });
  });

  it('has what is wanted alone of an agent that has said nothing', () => {
    const all = optionsOf({ ...config, in_force: null });
    expect(all.map(({ name, value, differs }) => [name, value, differs]).at(1)).toEqual(['batch.rows_max', undefined, false]);
    expect(all).toHaveLength(4);
  });

  it('is searched, and shows what somebody set or wants', () => {
    const all = optionsOf(config);
    expect(shownOptions(all, '', 'set')).toHaveLength(5);
    expect(shownOptions([{ ...all[0], wanted: null }], '', 'set')).toEqual([]);
    expect(shownOptions(all, 'tideline quota', 'environment').map(({ name }) => name)).toEqual(['spool.quota_mb']);
    expect(shownOptions(all, 'rows', 'file')).toEqual([]);
  });

  it('has a place in the layer for each option, with names that hold dots', () => {
    expect([pathOf('batch.rows_max'), pathOf('source.meter.interval_ms'), pathOf('source.a.b.path')]).toEqual([
      ['batch', 'rows_max'], ['source', 'meter', 'interval_ms'], ['source', 'a.b', 'path'],
    ]);
  });

  it('takes what is typed by what the option holds', () => {
    expect([isNamed('source.host.kind'), isNamed('batch.rows_max'), isNamed('source..kind')]).toEqual([true, true, false]);
    expect([valueOf('12', 7), valueOf('12', 'eleven'), valueOf('true', false), valueOf('[1]', [2]), valueOf('host', undefined)]).toEqual([12, '12', true, [1], 'host']);
    expect([fieldOf(undefined), fieldOf('a'), fieldOf(['a']), fieldOf(null)]).toEqual(['', 'a', '["a"]', 'null']);
  });
});
