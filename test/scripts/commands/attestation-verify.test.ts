import { Buffer } from 'node:buffer';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { main } from '../../../scripts/strongroom.ts';
import { CHECKS } from '../../../shared/attestation/checks.ts';
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

describeWithVectors('attestation verify with documents of AWS', (vectors) => {
  const place = join(vectors, 'attestation');

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
