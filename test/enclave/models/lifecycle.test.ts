import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { BootError } from '../../../enclave/errors.ts';
import type { CheckedModel } from '../../../enclave/model.ts';
import { ModelLifecycle } from '../../../enclave/models/lifecycle.ts';
import type { ServedModel } from '../../../enclave/models/model-set.ts';
import { ModelRegistry } from '../../../enclave/models/registry.ts';
import type { ModelPin } from '../../../shared/deployment/deployment.ts';
import { eventually } from '../../support/eventually.ts';
import { fakeEngine, servedModel } from '../../support/serving.ts';

const { publicKey: signer } = generateKeyPairSync('ed25519');
const pin = (name: string): ModelPin => ({ kind: 'signer', name, minimumVersion: 1, signer });
const engine = fakeEngine({ inputs: [], outputs: [] }, async () => ({ outputs: [] }));
const served = (name: string, version: number): ServedModel => servedModel(engine, { name, version });

/** The enclave with models a and b of version 2; the parent offers what `offered` says. */
function enclave(loaded = ['a', 'b']) {
  const registry = new ModelRegistry(loaded.map((name) => served(name, 2)));
  const offered = { version: 3, error: undefined as Error | undefined };
  const asked: string[] = [];
  let gate = Promise.resolve();
  const lifecycle = new ModelLifecycle({
    pins: [pin('a'), pin('b')],
    registry,
    check: async ({ name }) => {
      asked.push(`check ${name}`);
      if (offered.error !== undefined) throw offered.error;
      return { name, version: offered.version } as CheckedModel;
    },
    load: async ({ name, version }) => {
      asked.push(`load ${name} ${version}`);
      await gate;
      return served(name, version);
    },
  });
  const versionOf = (name: string) => lifecycle.status().find((status) => status.name === name)?.version;
  const failureOf = (name: string) => lifecycle.status().find((status) => status.name === name)?.failure;
  const idle = () => eventually(() => lifecycle.status().some(({ loading }) => loading)).toBe(false);
  return {
    registry,
    lifecycle,
    offered,
    asked,
    versionOf,
    failureOf,
    idle,
    hold: () => {
      const held = Promise.withResolvers<void>();
      gate = held.promise;
      return held.resolve;
    },
  };
}

const refusal = (code: string) => expect.objectContaining({ code });

describe('replacing a model', () => {
  it('puts the newer one in its place, and tells while it loads', async () => {
    const at = enclave();
    const release = at.hold();
    at.lifecycle.load('a');
    expect(at.lifecycle.status()[0]).toMatchObject({ version: 2, loading: true });
    await eventually(() => at.asked).toContain('load a 3');
    expect(at.registry.current.find('a')?.version).toBe(2);
    release();
    await at.idle();
    expect([at.versionOf('a'), at.versionOf('b')]).toEqual([3, 2]);
  });

  it.each([2, 1])('refuses version %i where 2 serves, before any key is asked for', async (version) => {
    const at = enclave();
    at.offered.version = version;
    at.lifecycle.load('a');
    await at.idle();
    expect(at.failureOf('a')).toBe('MODELS_NOT_NEWER');
    expect(at.asked).toEqual(['check a']);
    expect(at.versionOf('a')).toBe(2);
  });

  it('leaves what serves alone when the new one is refused, and tells the code and no words', async () => {
    const at = enclave();
    at.offered.error = new BootError('MODEL_NOT_EXPECTED', 'a secret');
    at.lifecycle.load('a');
    await at.idle();
    expect(at.lifecycle.status()[0]).toMatchObject({ version: 2, failure: 'MODEL_NOT_EXPECTED' });
    expect(JSON.stringify(at.lifecycle.status())).not.toContain('secret');
    at.offered.error = undefined;
    at.lifecycle.load('a');
    await at.idle();
    expect(at.lifecycle.status()[0]).toMatchObject({ version: 3, failure: null });
  });

  it('loads one at a time, and only what the deployment names', async () => {
    const at = enclave();
    const release = at.hold();
    at.lifecycle.load('a');
    expect(() => at.lifecycle.load('b')).toThrow(refusal('MODELS_BUSY'));
    expect(() => at.lifecycle.load('a')).toThrow(refusal('MODELS_BUSY'));
    expect(() => at.lifecycle.load('wine')).toThrow(refusal('MODELS_UNKNOWN'));
    release();
    await at.idle();
  });
});

describe('unloading a model', () => {
  it('takes it away, and lets it come back as it was, but never as an older one', async () => {
    const at = enclave();
    at.lifecycle.unload('a');
    expect(at.versionOf('a')).toBeNull();
    at.offered.version = 1;
    at.lifecycle.load('a');
    await at.idle();
    expect([at.versionOf('a'), at.failureOf('a')]).toEqual([null, 'MODELS_NOT_NEWER']);
    at.offered.version = 2;
    at.lifecycle.load('a');
    await at.idle();
    expect(at.versionOf('a')).toBe(2);
  });

  it('does not take the last one, nor one that there is not', () => {
    const at = enclave(['a']);
    expect(() => at.lifecycle.unload('a')).toThrow(refusal('MODELS_LAST'));
    expect(() => at.lifecycle.unload('wine')).toThrow(refusal('MODELS_UNKNOWN'));
  });
});
