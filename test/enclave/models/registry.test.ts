import { expect, it } from 'vitest';
import type { ServedModel } from '../../../enclave/models/model-set.ts';
import { ModelRegistry } from '../../../enclave/models/registry.ts';
import { fakeEngine, servedModel } from '../../support/serving.ts';

function model(name: string, version: number, closed: string[]): ServedModel {
  const engine = fakeEngine({ inputs: [], outputs: [] }, async () => ({ outputs: [] }));
  const close = async () => void closed.push(`${name} ${version}`);
  return servedModel(engine, { name, version, close });
}

it('closes a replaced model once the last that holds it lets go, and not before', async () => {
  const closed: string[] = [];
  const registry = new ModelRegistry([model('a', 1, closed), model('b', 1, closed)]);
  const old = registry.current;
  const holds = [registry.hold(old), registry.hold(old)];
  registry.put(model('a', 2, closed));
  expect([old.find('a')?.version, registry.current.find('a')?.version]).toEqual([1, 2]);
  expect(registry.inMemory.map(({ name, version }) => `${name} ${version}`)).toEqual(['a 2', 'b 1', 'a 1']);
  holds[0]?.[Symbol.dispose]();
  holds[0]?.[Symbol.dispose]();
  expect(closed).toEqual([]);
  holds[1]?.[Symbol.dispose]();
  expect(closed).toEqual(['a 1']);
});

it('closes at once what nobody holds, and keeps what both sets have', async () => {
  const closed: string[] = [];
  const registry = new ModelRegistry([model('a', 1, closed), model('b', 1, closed)]);
  registry.remove('a');
  expect(closed).toEqual(['a 1']);
  expect(registry.current.models.map(({ name }) => name)).toEqual(['b']);
});

it('keeps every model of a set that somebody holds through several changes', () => {
  const closed: string[] = [];
  const registry = new ModelRegistry([model('a', 1, closed), model('b', 1, closed)]);
  const hold = registry.hold(registry.current);
  registry.put(model('a', 2, closed));
  registry.put(model('b', 2, closed));
  registry.put(model('a', 3, closed));
  expect(closed).toEqual(['a 2']);
  hold[Symbol.dispose]();
  expect(closed.toSorted()).toEqual(['a 1', 'a 2', 'b 1']);
});

it('closes everything at the end, held or not, and waits for it', async () => {
  const closed: string[] = [];
  const registry = new ModelRegistry([model('a', 1, closed)]);
  const hold = registry.hold(registry.current);
  registry.put(model('a', 2, closed));
  await registry.close();
  expect(closed.toSorted()).toEqual(['a 1', 'a 2']);
  expect(registry.ready).toBe(false);
  hold[Symbol.dispose]();
  expect(closed).toHaveLength(2);
});
