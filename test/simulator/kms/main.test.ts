/** The simulated KMS as a process of its own. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { CreateKeyCommand, DescribeKeyCommand, EncryptCommand } from '@aws-sdk/client-kms';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { codeOf } from '../../../shared/errors.ts';
import { readSimulatedKmsConfig } from '../../../simulator/kms/config.ts';
import { createSimulatedCa } from '../../../simulator/nsm/ca.ts';
import { ACCOUNT, ALL_OF_KMS, admin, clientOf, keyPolicy, REGION, refusal } from './support.ts';

const MAIN = join(import.meta.dirname, '..', '..', '..', 'simulator', 'kms', 'main.ts');
const KEY_ID = '1234abcd-12ab-34cd-56ef-1234567890ab';
let folder: string;
let config: Record<string, unknown>;
const children: ChildProcessWithoutNullStreams[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strongroom-kms-'));
  const ca = await createSimulatedCa({ region: REGION, now: new Date() });
  config = {
    region: REGION,
    accountId: ACCOUNT,
    principals: [{ ...admin, iamPolicies: [ALL_OF_KMS] }],
    attestationAnchors: [ca.rootPem],
    keys: [{ keyId: KEY_ID, policy: keyPolicy() }],
    auditLog: join(folder, 'trail.jsonl'),
  };
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});
afterAll(() => rmSync(folder, { recursive: true }));

async function start(content: unknown = config) {
  const path = join(folder, 'config.json');
  writeFileSync(path, JSON.stringify(content));
  const child = spawn(process.execPath, [MAIN, path]);
  children.push(child);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => JSON.parse(String((await lines.next()).value));
  return { child, next, exited: once(child, 'exit') };
}

describe('the process', () => {
  it('says where it listens, serves, takes faults on its standard input, and ends with it', async () => {
    const { child, next, exited } = await start();
    const ready = await next();
    expect(ready).toMatchObject({ ready: true, host: `kms.${REGION}.amazonaws.com` });
    const client = clientOf(ready, admin);
    try {
      const { KeyMetadata } = await client.send(new DescribeKeyCommand({ KeyId: KEY_ID }));
      await client.send(new EncryptCommand({ KeyId: KeyMetadata?.Arn, Plaintext: Buffer.of(1) }));

      child.stdin.write(
        `${JSON.stringify({ inject: { kind: 'error', name: 'ThrottlingException' }, times: 2 })}\n`,
      );
      expect(await next()).toEqual({ ok: true });
      expect((await refusal(client.send(new CreateKeyCommand({})))).name).toBe('ThrottlingException');
      child.stdin.write('{"clear":true}\n');
      expect(await next()).toEqual({ ok: true });
      await client.send(new CreateKeyCommand({}));
      child.stdin.write('{"inject":{"kind":"explode"}}\n');
      expect(await next()).toMatchObject({ ok: false, error: expect.stringContaining('explode') });

      const trail = readFileSync(join(folder, 'trail.jsonl'), 'utf8').trimEnd().split('\n');
      expect(trail.map((line) => JSON.parse(line).eventName)).toContain('DescribeKey');
    } finally {
      client.destroy();
    }
    child.stdin.end();
    expect(await exited).toEqual([0, null]);
  });

  it('ends on SIGTERM', async () => {
    const { child, next, exited } = await start();
    await next();
    child.kill('SIGTERM');
    expect(await exited).toEqual([0, null]);
  });

  it('does not start on a configuration that it does not understand', async () => {
    const { child, exited } = await start({ ...config, regoin: 'x' });
    const told = text(child.stderr);
    expect(await exited).toEqual([2, null]);
    expect(await told).toContain('regoin');
  });
});

describe('its configuration is refused', () => {
  const refused = (content: unknown) => {
    try {
      readSimulatedKmsConfig(Buffer.from(JSON.stringify(content)), () => new Date());
    } catch (error) {
      return codeOf(error);
    }
    return undefined;
  };

  it('unless it is whole', () => {
    expect(refused(config)).toBeUndefined();
    expect(refused({ ...config, listen: { host: '127.0.0.1', port: 0 } })).toBeUndefined();
    expect(
      refused({ ...config, principals: [{ ...admin, expiration: '2030-01-01T00:00:00Z' }] }),
    ).toBeUndefined();
  });

  it.each([
    ['a list', () => []],
    ['no Region', () => ({ ...config, region: undefined })],
    ['an account that is a number', () => ({ ...config, accountId: 1 })],
    ['an unknown member', () => ({ ...config, extra: 1 })],
    ['an anchor that is no certificate', () => ({ ...config, attestationAnchors: ['x'] })],
    [
      'a principal without a secret',
      () => ({ ...config, principals: [{ arn: admin.arn, accessKeyId: 'A' }] }),
    ],
    ['a principal with an unknown member', () => ({ ...config, principals: [{ ...admin, secret: 'x' }] })],
    ['a principal that is null', () => ({ ...config, principals: [null] })],
    ['an expiration that is no time', () => ({ ...config, principals: [{ ...admin, expiration: 'soon' }] })],
    ['a port that is text', () => ({ ...config, listen: { port: '1' } })],
    ['a key without a policy', () => ({ ...config, keys: [{ keyId: 'x' }] })],
  ])('with %s', (_, content) => {
    expect(refused(content())).toBe('SIMULATED_KMS_CONFIG');
  });
});
