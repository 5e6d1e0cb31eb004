import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DEPLOYMENT_MAX_BYTES, parseDeployment } from '../../../shared/deployment/deployment.ts';
import { DeploymentError } from '../../../shared/deployment/errors.ts';
import { parseKmsKeyArn } from '../../../shared/deployment/kms-key.ts';

const pem = (type: 'P-256' | 'P-384' | 'ed25519'): string =>
  (type === 'ed25519'
    ? generateKeyPairSync('ed25519')
    : generateKeyPairSync('ec', { namedCurve: type })
  ).publicKey
    .export({ type: 'spki', format: 'pem' })
    .toString();

const KEY_ARN = 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab';
const SIGNER = pem('P-256');

const valid = () => ({
  format: 'strongroom-deployment/1',
  models: [{ name: 'iris', minimumVersion: 3, signer: SIGNER }] as Record<string, unknown>[],
  kmsKeys: [KEY_ARN],
  clients: 'anyone' as unknown,
});

const parse = (document: unknown) => parseDeployment(Buffer.from(JSON.stringify(document)));

function refusal(document: unknown): { code: string; message: string } {
  try {
    parse(document);
  } catch (error) {
    if (error instanceof DeploymentError) return { code: error.code, message: error.message };
    throw error;
  }
  throw new Error('the document was accepted');
}

describe('a deployment document', () => {
  it('is read with every member and its defaults', () => {
    const deployment = parse(valid());
    expect(deployment.models[0]).toMatchObject({ kind: 'signer', name: 'iris', minimumVersion: 3 });
    expect(deployment.kmsKeys[0]).toEqual({
      arn: KEY_ARN,
      region: 'eu-central-1',
      accountId: '111122223333',
      keyId: '1234abcd-12ab-34cd-56ef-1234567890ab',
      host: 'kms.eu-central-1.amazonaws.com',
    });
    expect(deployment).toMatchObject({ clients: 'anyone', telemetry: [], limits: { queueLength: 64 } });
  });

  it('may pin a content id instead of a signer, or an Ed25519 signer', () => {
    const contentId = 'ab'.repeat(32);
    expect(parse({ ...valid(), models: [{ name: 'iris', contentId }] }).models[0]).toEqual({
      kind: 'content',
      name: 'iris',
      contentId,
    });
    expect(
      parse({ ...valid(), models: [{ name: 'iris', minimumVersion: 1, signer: pem('ed25519') }] }).models,
    ).toHaveLength(1);
  });

  it('stands in docs/deployment.md as an example that parses', () => {
    const page = readFileSync(join(import.meta.dirname, '../../../docs/deployment.md'), 'utf8');
    const example = page.split('```json\n').at(-1)?.split('```')[0] ?? '';
    expect(parseDeployment(Buffer.from(example)).models[0]?.name).toBe('iris');
  });

  it.each<[string, (document: ReturnType<typeof valid> & Record<string, unknown>) => unknown, string]>([
    ['another format', (d) => ({ ...d, format: 'strongroom-deployment/2' }), 'format'],
    ['an unknown member', (d) => ({ ...d, client: 'anyone' }), 'unknown member "client"'],
    ['no models', (d) => ({ ...d, models: [] }), 'models'],
    ['too many models', (d) => ({ ...d, models: Array.from({ length: 17 }, () => d.models[0]) }), 'models'],
    ['one name twice', (d) => ({ ...d, models: [d.models[0], d.models[0]] }), 'twice'],
    [
      'a name that is a path',
      (d) => ({ ...d, models: [{ ...d.models[0], name: '../x' }] }),
      'models[0].name',
    ],
    [
      'a version of zero',
      (d) => ({ ...d, models: [{ ...d.models[0], minimumVersion: 0 }] }),
      'minimumVersion',
    ],
    [
      'a version that is text',
      (d) => ({ ...d, models: [{ ...d.models[0], minimumVersion: '1' }] }),
      'minimumVersion',
    ],
    [
      'a signer without a minimum version',
      (d) => ({ ...d, models: [{ name: 'a', signer: SIGNER }] }),
      'minimumVersion',
    ],
    [
      'neither signer nor content id',
      (d) => ({ ...d, models: [{ name: 'a', minimumVersion: 1 }] }),
      'signer',
    ],
    [
      'both signer and content id',
      (d) => ({ ...d, models: [{ ...d.models[0], contentId: 'ab'.repeat(32) }] }),
      'either',
    ],
    [
      'an upper-case content id',
      (d) => ({ ...d, models: [{ name: 'a', contentId: 'AB'.repeat(32) }] }),
      'contentId',
    ],
    ['a P-384 signer', (d) => ({ ...d, models: [{ ...d.models[0], signer: pem('P-384') }] }), 'signer'],
    ['a signer that is no key', (d) => ({ ...d, models: [{ ...d.models[0], signer: 'x' }] }), 'signer'],
    ['no KMS key', (d) => ({ ...d, kmsKeys: [] }), 'kmsKeys'],
    ['limits beyond their bounds', (d) => ({ ...d, limits: { connections: 5000 } }), 'limits.connections'],
    ['an unknown limit', (d) => ({ ...d, limits: { tokens: 1 } }), 'unknown member "tokens"'],
    ['an unknown telemetry event', (d) => ({ ...d, telemetry: ['prompts'] }), 'telemetry[0]'],
    ['a missing member', ({ clients: _, ...d }) => d, 'lacks the member "clients"'],
    ['clients of an unknown word', (d) => ({ ...d, clients: 'everyone' }), 'clients'],
    ['a list', (d) => [d], 'the document'],
  ])('is refused with %s', (_, change, named) => {
    const { code, message } = refusal(change(valid()));
    expect(code).toBe('DEPLOYMENT_MALFORMED');
    expect(message).toContain(named);
  });

  it('is refused when a member is repeated, so that no two parsers read it differently', () => {
    const text = JSON.stringify(valid()).replace('{', '{"clients":"anyone",');
    expect(() => parseDeployment(Buffer.from(text))).toThrow(DeploymentError);
  });

  it('is refused above its size before it is parsed', () => {
    const document = Buffer.from(JSON.stringify(valid()).padEnd(DEPLOYMENT_MAX_BYTES + 1));
    expect(() => parseDeployment(document)).toThrow(/at most 65536 bytes, found 65537/);
  });

  it('answers arbitrary bytes with a DeploymentError and nothing else', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 200 }),
          fc.json().map((text) => Buffer.from(text)),
        ),
        (bytes) => {
          expect(() => parseDeployment(bytes)).toThrow(DeploymentError);
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('a KMS key', () => {
  it.each([
    'alias/model',
    'arn:aws:kms:eu-central-1:111122223333:alias/model',
    '1234abcd-12ab-34cd-56ef-1234567890ab',
    `${KEY_ARN}/`,
    `${KEY_ARN}\n`,
    KEY_ARN.replace('eu-central-1', 'eu-central-1.evil.example'),
    KEY_ARN.replace('arn:aws:', 'arn:aws-cn:'),
    KEY_ARN.toUpperCase(),
  ])('is refused unless it is a full key ARN: %j', (arn) => {
    expect(() => parseKmsKeyArn(arn)).toThrow(expect.objectContaining({ code: 'KMS_KEY_ARN_INVALID' }));
  });

  it('may be a multi-Region key', () => {
    const arn = 'arn:aws:kms:us-east-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab';
    expect(parseKmsKeyArn(arn).host).toBe('kms.us-east-1.amazonaws.com');
  });
});
