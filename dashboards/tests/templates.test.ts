import { expect, test } from 'vitest';
import type { Row } from '../src/lib/fleettable';
import { agentsOf, layerOf, nameOf } from '../src/lib/templates';

const row = (id: string, more: Partial<Row> = {}): Row => ({
  id, title: '', agent: id, site: '', groups: [], tags: [], firmware: '', state: 'online', last: null, rate: 0, backlog: 0, produced: 0, stored: 0, dropped: 0,
  refused: 0, gaps: 0, balanced: true, hours: '', minutes: '', more: '', ...more,
});

test('a layer is an object of JSON, and what is none is told', () => {
  expect(layerOf('{"batch": {"rows_max": 1000}, "source": {"old": false, "list": [1, 2]}}')).toMatchObject({ options: 3 });
  expect(layerOf('{}')).toEqual({ layer: {}, options: 0 });
  for (const text of ['', '{"a": }', '[]', '7', 'null']) expect(layerOf(text)).toHaveProperty('wrong');
});

test('a template is for the agents of its group or at its site, whatever its name is like', () => {
  const rows = [
    row('a', { groups: ['pumps'] }), row('a-meter', { agent: 'a', groups: ['pumps'] }), row('b', { groups: ['pumps'], state: 'revoked' }), row('c', { site: 'Halle/2' }), row('d', { site: 'pumps' }),
  ];
  expect([agentsOf(rows, 'group/pumps'), agentsOf(rows, 'site/Halle/2'), agentsOf(rows, 'site/pumps'), agentsOf(rows, 'group/none')]).toEqual([1, 1, 1, 0]);
  expect([nameOf('site', ' Halle/2 '), nameOf('group', ' ')]).toEqual(['site/Halle/2', null]);
});
