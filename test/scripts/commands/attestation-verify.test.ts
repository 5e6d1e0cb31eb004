import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { main } from '../../../scripts/strongroom.ts';
import { CHECKS } from '../../../shared/attestation/checks.ts';
import { type CborValue, encodeCbor } from '../../../shared/cbor.ts';
import { pcrOfMeasuredBytes } from '../../../shared/pcr.ts';
import { buildDocument, NOW } from '../../shared/attestation/build.ts';
import { describeWithVectors } from '../../vectors.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'attestation-verify-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const file = (name: string, content: Uint8Array | string) => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};

async function verify(args: readonly string[], input: Uint8Array | string = '') {
  const stdin = new PassThrough();
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  stdin.end(input);
  const code = await main(['attestation', 'verify', ...args], {
    stdin,
    stdout,
    stderr,
    signal: new AbortController().signal,
  });
  const text = (stream: PassThrough) => (stream.read() as Buffer | null)?.toString('utf8') ?? '';
  return { code, out: text(stdout), err: text(stderr) };
}

interface Report {
  readonly genuine: boolean;
  readonly code: string | null;
  readonly trust: string | null;
  readonly debug: boolean | null;
  readonly checks: readonly { check: string; outcome: string }[];
  readonly document?: { pcrs: Record<string, string> } | null;
  readonly unverifiedDocument?: unknown;
}
const json = async (args: readonly string[], input?: Uint8Array | string) => {
  const { code, out } = await verify([...args, '--json'], input);
  return { exit: code, ...(JSON.parse(out) as Report) };
};
const outcomeOf = (report: Report, check: string) =>
  report.checks.find((result) => result.check === check)?.outcome;

describe('attestation verify', () => {
  const { bytes, anchor } = buildDocument();
  const at = NOW.toISOString();
  const pem = `-----BEGIN CERTIFICATE-----\n${Buffer.from(anchor.certificate).toString('base64')}\n-----END CERTIFICATE-----\n`;

  it('ticks off every check of a genuine document', async () => {
    const document = file('document.cbor', bytes);
    const { code, out, err } = await verify([document, '--root', file('root.pem', pem), '--at', at]);
    expect(err).toBe('');
    expect(code).toBe(0);
    const genuine = CHECKS.filter(({ step }) => step !== 'expected');
    for (const { section, what } of genuine) expect(out).toContain(`[x] ${section}  ${what}`);
    expect(out).toContain('trust simulation');
    expect(out).not.toContain('DEBUG');
  });

  it('takes a root in DER, a document in base64, and either from standard input', async () => {
    const root = file('root.der', anchor.certificate);
    const base64 = Buffer.from(bytes).toString('base64').replaceAll(/.{76}/g, '$&\n');
    const base64url = Buffer.from(bytes).toString('base64url');
    for (const input of [bytes, base64, `${base64}\n`, base64url]) {
      expect((await json(['-', '--root', root, '--at', at], input)).exit).toBe(0);
    }
  });

  it('trusts no simulation unless its root is named', async () => {
    const report = await json(['-', '--at', at], bytes);
    expect(report.exit).toBe(1);
    expect(report.code).toBe('ATTESTATION_UNTRUSTED_ROOT');
    expect(report.genuine).toBe(false);
    expect(report.document).toBeUndefined();
    expect(report.unverifiedDocument).toBeTruthy();
    expect(outcomeOf(report, 'fields')).toBe('passed');
    expect(outcomeOf(report, 'root')).toBe('failed');
    expect(outcomeOf(report, 'signature')).toBe('not-reached');
    expect(outcomeOf(report, 'pcrs')).toBe('not-asked');
  });

  it('judges at the present time unless told otherwise', async () => {
    const root = file('root.der', anchor.certificate);
    expect((await json(['-', '--root', root], bytes)).code).toMatch(/^ATTESTATION_(EXPIRED|NOT_YET_VALID)$/);
  });

  it('judges at the time of the document only with a note that this says nothing about now', async () => {
    const { code, out } = await verify(
      ['-', '--root', file('root.der', anchor.certificate), '--at', 'document'],
      bytes,
    );
    expect(code).toBe(0);
    expect(out).toContain('says nothing about now');
  });

  it('points out debug mode', async () => {
    const debug = buildDocument((parts) => {
      for (const index of [0, 1, 2])
        (parts.payload.get('pcrs') as Map<number, Uint8Array>).set(index, new Uint8Array(48));
    });
    const root = file('debug-root.der', debug.anchor.certificate);
    const { code, out } = await verify(['-', '--root', root, '--at', at], debug.bytes);
    expect(code).toBe(0);
    expect(out).toContain('DEBUG MODE');
    expect((await json(['-', '--root', root, '--at', at], debug.bytes)).debug).toBe(true);
  });

  it('says that what it prints of a refused document is not verified', async () => {
    const { code, out } = await verify(['-', '--at', at], bytes);
    expect(code).toBe(1);
    expect(out).toContain('not verified, do not rely on it');
    expect(out).toContain('code: ATTESTATION_UNTRUSTED_ROOT');
    expect(out).toMatch(/next: /);
  });

  it.each([
    ['no document', [], 'USAGE'],
    ['two documents', ['a', 'b'], 'USAGE'],
    ['a time without a zone', ['-', '--at', '2026-03-04T05:06:07'], 'USAGE'],
    ['a time that does not exist', ['-', '--at', '2026-13-04T05:06:07Z'], 'USAGE'],
    ['an unknown option', ['-', '--trust', 'all'], 'USAGE'],
    ['a file that is not there', ['/nonexistent/document'], 'INPUT_UNREADABLE'],
    ['a root that is no certificate', ['-', '--root', '/dev/null'], 'ATTESTATION_ANCHOR_UNUSABLE'],
  ])('exits 2 with %s', async (_what, args, code) => {
    const { code: exit, err } = await verify(args, bytes);
    expect(exit).toBe(2);
    expect(err).toContain(`code: ${code}`);
  });

  it.each([
    ['nothing', '', 'CBOR_MALFORMED'],
    ['text', 'this is not a document!', 'CBOR_TRAILING_BYTES'],
    ['more than any document', Buffer.alloc(1 << 20, 0x84), 'ATTESTATION_TOO_LARGE'],
  ])('exits 2 where it reads %s', async (_what, input, code) => {
    const report = await json(['-', '--at', 'document'], input);
    expect(report).toMatchObject({ exit: 2, code, genuine: false, unverifiedDocument: null });
  });

  it('explains itself', async () => {
    const { code, out } = await verify(['--help']);
    expect(code).toBe(0);
    expect(out).toContain('Usage: strongroom attestation verify');
  });
});

describe('attestation verify --expect', () => {
  const at = NOW.toISOString();
  const PCR0 = 'ab'.repeat(48);
  const { bytes, anchor } = buildDocument(({ payload }) => {
    (payload.get('pcrs') as Map<number, Uint8Array>).set(0, Buffer.from(PCR0, 'hex'));
    payload.set('nonce', Buffer.from('a nonce'));
    payload.set('public_key', Buffer.from('a key'));
    payload.set('user_data', Buffer.from('some data'));
  });
  const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
  const all = {
    format: 'strongroom-expectations/1',
    pcrs: { 0: PCR0, 16: 'any' },
    nonce: Buffer.from('a nonce').toString('base64url'),
    publicKeySha256: sha256('a key'),
    userDataSha256: sha256('some data'),
    simulationRoot: 'expect-root.der',
  };
  const expecting = async (changes: object) => {
    file('expect-root.der', anchor.certificate);
    return await json(
      ['-', '--at', at, '--expect', file('expect.json', JSON.stringify({ ...all, ...changes }))],
      bytes,
    );
  };
  const ticks = (report: Report) =>
    Object.fromEntries(report.checks.slice(-7).map(({ check, outcome }) => [check, outcome]));

  it('ticks off every expectation', async () => {
    const report = await expecting({});
    expect(report).toMatchObject({ exit: 0, code: null, genuine: true, asExpected: true });
    expect(ticks(report)).toEqual({
      'not-debug': 'passed',
      age: 'passed',
      nonce: 'passed',
      'public-key': 'passed',
      pcr0: 'passed',
      pcr16: 'not-asked',
      'user-data': 'passed',
    });
  });

  it.each<[string, object, string, string]>([
    ['another image', { pcrs: { 0: 'cd'.repeat(48), 16: 'any' } }, 'pcr0', 'ATTESTATION_PCR_MISMATCH'],
    [
      'none of several images',
      { pcrs: { 0: ['cd'.repeat(48), 'ef'.repeat(48)], 16: 'any' } },
      'pcr0',
      'ATTESTATION_PCR_MISMATCH',
    ],
    [
      'a register that is not there',
      { pcrs: { 0: PCR0, 16: 'any', 20: PCR0 } },
      'pcr20',
      'ATTESTATION_PCR_MISSING',
    ],
    ['another nonce', { nonce: 'AAAA' }, 'nonce', 'ATTESTATION_NONCE_MISMATCH'],
    ['another key', { publicKeySha256: sha256('x') }, 'public-key', 'ATTESTATION_PUBLIC_KEY_MISMATCH'],
    ['other user data', { userDataSha256: sha256('x') }, 'user-data', 'ATTESTATION_USER_DATA_MISMATCH'],
  ])('refuses %s, and still compares the rest', async (_, changes, check, code) => {
    const report = await expecting(changes);
    expect(report).toMatchObject({ exit: 1, code, genuine: true, asExpected: false });
    const outcomes = ticks(report);
    expect(outcomes[check]).toBe('failed');
    expect(Object.values(outcomes).filter((outcome) => outcome === 'failed')).toHaveLength(1);
    expect(Object.values(outcomes)).not.toContain('not-reached');
  });

  it('counts age from the given time, unless any will do', async () => {
    const later = new Date(NOW.getTime() + 10 * 60_000).toISOString();
    const ask = (maxAgeSeconds: unknown) =>
      json(
        ['-', '--at', later, '--expect', file('aged.json', JSON.stringify({ ...all, maxAgeSeconds }))],
        bytes,
      );
    expect(await ask(undefined)).toMatchObject({ exit: 1, code: 'ATTESTATION_TOO_OLD' });
    expect(await ask(3600)).toMatchObject({ exit: 0 });
    expect(await ask('any')).toMatchObject({ exit: 0 });
  });

  it('compares nothing else of a debug image', async () => {
    const debug = buildDocument(({ payload }) => {
      for (const index of [0, 1, 2])
        (payload.get('pcrs') as Map<number, Uint8Array>).set(index, new Uint8Array(48));
    });
    const root = file('debug-root.der', debug.anchor.certificate);
    const report = await json(
      [
        '-',
        '--at',
        at,
        '--root',
        root,
        '--expect',
        file('debug.json', JSON.stringify({ ...all, pcrs: { 0: 'any', 16: 'any' } })),
      ],
      debug.bytes,
    );
    expect(report).toMatchObject({ exit: 1, code: 'ATTESTATION_DEBUG_IMAGE', asExpected: false });
    expect(ticks(report)).toMatchObject({ 'not-debug': 'failed', age: 'not-reached', pcr0: 'not-reached' });
  });

  it('refuses evidence that names another deployment than it measured', async () => {
    const claims = encodeCbor(
      new Map<string, CborValue>([
        ['v', 1],
        ['purpose', 'tls'],
        ['exporter', new Uint8Array(32)],
        ['spki', new Uint8Array(32)],
        ['models', new Uint8Array(48)],
        ['deployment', createHash('sha384').update('deployment').digest()],
      ]),
    );
    const evidence = (pcr16: Uint8Array) =>
      buildDocument(({ payload }) => {
        (payload.get('pcrs') as Map<number, Uint8Array>).set(16, pcr16);
        payload.set('user_data', claims);
      });
    const plain = file(
      'plain.json',
      JSON.stringify({
        ...all,
        pcrs: { 0: 'any', 16: 'any' },
        nonce: undefined,
        publicKeySha256: undefined,
        userDataSha256: undefined,
      }),
    );
    const ask = (document: ReturnType<typeof evidence>) =>
      json(
        ['-', '--at', at, '--root', file('evidence.der', document.anchor.certificate), '--expect', plain],
        document.bytes,
      );
    expect(await ask(evidence(pcrOfMeasuredBytes(Buffer.from('deployment'))))).toMatchObject({ exit: 0 });
    expect(await ask(evidence(pcrOfMeasuredBytes(Buffer.from('another'))))).toMatchObject({
      exit: 1,
      code: 'ATTESTATION_DEPLOYMENT_CONTRADICTED',
    });
  });

  it('says what it did not compare, and what to make of it', async () => {
    file('expect-root.der', anchor.certificate);
    const path = file('models.json', JSON.stringify({ ...all, models: [{ name: 'iris' }] }));
    const { code, out } = await verify(['-', '--at', at, '--expect', path], bytes);
    expect(code).toBe(0);
    expect(out).toContain('[-] 4.6  PCR16 has an expected value');
    expect(out).toContain('Models were not compared');
    expect(out).toContain('Genuine: trust simulation, and as expected.');
  });

  it.each<[string, string, string]>([
    ['no JSON', 'x', 'EXPECTATIONS_UNUSABLE'],
    ['a list', '[]', 'EXPECTATIONS_UNUSABLE'],
    ['a member twice', '{"nonce":"AAAA","nonce":"BBBB"}', 'EXPECTATIONS_UNUSABLE'],
    ['no image', JSON.stringify({ ...all, pcrs: { 16: 'any' } }), 'CLIENT_EXPECTATIONS'],
    [
      'an image of zeros',
      JSON.stringify({ ...all, pcrs: { 0: '0'.repeat(96), 16: 'any' } }),
      'CLIENT_EXPECTATIONS',
    ],
    ['a member that nobody knows', JSON.stringify({ ...all, pcr0: PCR0 }), 'CLIENT_EXPECTATIONS'],
    ['an empty nonce', JSON.stringify({ ...all, nonce: '' }), 'EXPECTATIONS_UNUSABLE'],
    ['a nonce with padding', JSON.stringify({ ...all, nonce: 'AAA=' }), 'EXPECTATIONS_UNUSABLE'],
    [
      'a digest in upper case',
      JSON.stringify({ ...all, userDataSha256: 'AB'.repeat(32) }),
      'EXPECTATIONS_UNUSABLE',
    ],
  ])('exits 2 for a file with %s', async (_, content, code) => {
    const { code: exit, out } = await verify(['-', '--expect', file('bad.json', content), '--json'], bytes);
    expect(exit).toBe(2);
    expect(JSON.parse(out)).toMatchObject({ error: { code } });
  });
});

describeWithVectors('attestation verify with documents of AWS', (vectors) => {
  const place = join(vectors, 'attestation');

  interface Listed {
    readonly file: string;
    readonly expected: string;
    readonly pcrs_nonzero?: Readonly<Record<string, string>>;
  }
  const listed = (JSON.parse(readFileSync(join(place, 'manifest.json'), 'utf8')) as Listed[]).filter(
    ({ file: name, expected }) => expected === 'valid' && name.endsWith('.cbor'),
  );

  it.each(listed)('compares $file register by register', async ({ file: name, pcrs_nonzero: pcrs = {} }) => {
    const ask = (registers: object) =>
      json([
        join(place, name),
        '--at',
        'document',
        '--expect',
        file(
          'aws.json',
          JSON.stringify({
            format: 'strongroom-expectations/1',
            pcrs: { 0: 'any', 16: 'any', ...registers },
          }),
        ),
      ]);
    const report = await ask(pcrs);
    if (report.debug === true) {
      expect(report).toMatchObject({ exit: 1, code: 'ATTESTATION_DEBUG_IMAGE', genuine: true });
      return;
    }
    expect(report).toMatchObject({ exit: 0, trust: 'aws-nitro', asExpected: true });
    for (const index of Object.keys(pcrs)) {
      const changed = await ask({ ...pcrs, [index]: 'ab'.repeat(48) });
      expect(changed).toMatchObject({ exit: 1, code: 'ATTESTATION_PCR_MISMATCH' });
      expect(changed.checks.filter(({ outcome }) => outcome === 'failed')).toMatchObject([
        { check: `pcr${index}` },
      ]);
    }
  });

  it('finds a production document genuine at its own time and expired now', async () => {
    const path = join(place, 'base-2024-11-30.cbor');
    const report = await json([path, '--at', 'document']);
    expect(report).toMatchObject({ exit: 0, genuine: true, trust: 'aws-nitro', debug: false, code: null });
    expect(Object.keys(report.document?.pcrs ?? {})).toHaveLength(16);
    expect(await json([path])).toMatchObject({ exit: 1, code: 'ATTESTATION_EXPIRED' });
    expect(await json([path, '--at', '2024-11-30T10:00:00Z'])).toMatchObject({
      exit: 1,
      code: 'ATTESTATION_NOT_YET_VALID',
    });
  });

  it.each([
    ['NEG-veracruz-2022-11-09-badsig.cbor', 1, 'ATTESTATION_SIGNATURE'],
    ['derived/alg-es256.cbor', 1, 'ATTESTATION_ALGORITHM'],
    ['derived/signature-r-equals-n.cbor', 1, 'ATTESTATION_SIGNATURE_RANGE'],
    ['derived/tag98.cbor', 2, 'ATTESTATION_TAG'],
    ['derived/trailing-byte.cbor', 2, 'CBOR_TRAILING_BYTES'],
  ])('%s: exit %i, %s', async (name, exit, code) => {
    expect(await json([join(place, name), '--at', 'document'])).toMatchObject({ exit, code });
  });

  it('refuses the AWS root as the root of a simulation', async () => {
    const root = join(place, 'AWS_NitroEnclaves_Root-G1.pem');
    const { code, err } = await verify([join(place, 'base-2024-11-30.cbor'), '--root', root]);
    expect(code).toBe(2);
    expect(err).toContain('ATTESTATION_ANCHOR_UNUSABLE');
    expect(readFileSync(root, 'utf8')).toContain('BEGIN CERTIFICATE');
  });
});
