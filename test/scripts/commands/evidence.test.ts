/** `evidence bundle` and `evidence verify`, as somebody calls them. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fileStream } from '../../../review/image/eif/file-stream.ts';
import { measureEif } from '../../../review/image/eif/measure-eif.ts';
import { main } from '../../../scripts/strongroom.ts';
import { HOST, KEY_ARN, newRelease, type Release } from '../../review/bundle/release.ts';
import { CHROMIUM, look, openBrowser } from '../../support/browser.ts';
import { describeWithVectors } from '../../vectors.ts';

let folder: string;
let release: Release;
const file = (name: string, content: Uint8Array | string = '') => {
  const path = join(folder, name);
  if (content.length > 0) writeFileSync(path, content, { mode: 0o600 });
  return path;
};

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strongroom-evidence-'));
  release = await newRelease();
  const { privateKey, publicKey } = release.signer;
  file('image.json', release.image);
  file('deployment.json', release.deployment);
  file('policy.json', release.policy);
  file('attestation.cbor', release.attestation);
  file('attestation.b64', Buffer.from(release.attestation).toString('base64'));
  file(
    'ask.json',
    JSON.stringify({ verified: { document: Buffer.from(release.attestation).toString('base64') } }),
  );
  file('release.json', release.release);
  file('manifest.json', release.modelManifests[0]);
  file('root.pem', release.rootPem);
  file('key.pem', privateKey.export({ type: 'pkcs8', format: 'pem' }));
  file('pub.pem', publicKey.export({ type: 'spki', format: 'pem' }));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function strongroom(...args: string[]) {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const code = await main(args, { stdin, stdout, stderr, signal: new AbortController().signal });
  const text = (stream: PassThrough) => (stream.read() as Buffer | null)?.toString('utf8') ?? '';
  return { code, out: text(stdout), err: text(stderr) };
}

const bundleArgs = (out: string, changes: Readonly<Record<string, string | undefined>> = {}): string[] => {
  const options: Record<string, string | undefined> = {
    pcrs: file('image.json'),
    deployment: file('deployment.json'),
    policy: file('policy.json'),
    attestation: file('attestation.cbor'),
    role: HOST,
    key: KEY_ARN,
    release: file('release.json'),
    model: file('manifest.json'),
    root: file('root.pem'),
    out: file(out),
    ...changes,
  };
  return Object.entries(options).flatMap(([name, value]) =>
    value === undefined ? [] : [`--${name}`, value],
  );
};
const bundle = (out: string, changes = {}) => strongroom('evidence', 'bundle', ...bundleArgs(out, changes));
const verify = (path: string, ...args: string[]) =>
  strongroom('evidence', 'verify', file(path), '--root', file('root.pem'), ...args);

describe('evidence bundle', () => {
  it('writes a bundle that evidence verify accepts, and shows every check', async () => {
    const made = await bundle('plain.tar');
    expect(made).toMatchObject({ code: 0, err: expect.stringMatching(/^wrote .*plain\.tar, \d+ bytes\n$/) });
    expect(made.out).toMatch(/^In order at 2026-01-03T20:40:28\.841Z, IN SIMULATION: /);
    const verified = await verify('plain.tar');
    expect(verified).toMatchObject({ code: 0, out: made.out });
  });

  it('signs it with a key, which evidence verify can ask for', async () => {
    expect(await bundle('signed.tar', { sign: file('key.pem') })).toMatchObject({ code: 0 });
    expect(await verify('signed.tar', '--signer', file('pub.pem'))).toMatchObject({ code: 0 });
    const unsigned = await verify('plain.tar', '--signer', file('pub.pem'), '--json');
    expect(unsigned.code).toBe(1);
    expect(JSON.parse(unsigned.out)).toMatchObject({ inOrder: false, code: 'BUNDLE_UNSIGNED' });
  });

  it.each(['attestation.b64', 'ask.json'])('takes the document as %s holds it', async (name) => {
    expect(await bundle(`${name}.tar`, { attestation: file(name) })).toMatchObject({ code: 0 });
  });

  it('writes nothing if a check fails', async () => {
    const other = await newRelease({ image: 'another' });
    const refused = await bundle('refused.tar', { pcrs: file('other.json', other.image) });
    expect(refused).toMatchObject({ code: 1, err: 'nothing was written\n' });
    expect(refused.out).toMatch(/^Refused: PCR0 is .*\n {2}code: BUNDLE_MISMATCH\n/);
    expect(existsSync(file('refused.tar'))).toBe(false);
    expect(await bundle('aws.tar', { root: undefined })).toMatchObject({ code: 1 });
  });

  it('replaces no file', async () => {
    file('there.tar', 'mine');
    expect(await bundle('there.tar')).toMatchObject({ code: 2 });
    expect(readFileSync(file('there.tar'), 'utf8')).toBe('mine');
  });

  it.each<[string, Record<string, string | undefined>]>([
    ['no image', { pcrs: undefined }],
    ['two images', { image: 'x.eif' }],
    ['no deployment', { deployment: undefined }],
    ['no policy', { policy: undefined }],
    ['no attestation', { attestation: undefined }],
    ['nowhere to write', { out: undefined }],
    ['a time without a zone', { at: '2026-01-03T20:40:28' }],
  ])('says how it is used: %s', async (_what, changes) => {
    const { code, err } = await bundle('usage.tar', changes);
    expect({ code, err }).toMatchObject({ code: 2, err: expect.stringContaining('code: USAGE') });
  });

  it('refuses what is no part of a bundle', async () => {
    expect(await bundle('x.tar', { attestation: file('image.json') })).toMatchObject({
      code: 2,
      err: expect.stringContaining('INPUT_UNREADABLE'),
    });
    expect(await bundle('x.tar', { deployment: file('image.json') })).toMatchObject({
      code: 2,
      err: expect.stringContaining('DEPLOYMENT_MALFORMED'),
    });
  });
});

describe('evidence verify', () => {
  it('judges at the time that it is given', async () => {
    expect(await verify('plain.tar', '--at', '2026-01-03T21:00:00Z')).toMatchObject({ code: 0 });
    const late = await verify('plain.tar', '--at', '2036-01-03T21:00:00Z', '--json');
    expect(late.code).toBe(1);
    expect(JSON.parse(late.out)).toMatchObject({
      code: 'ATTESTATION_EXPIRED',
      at: '2036-01-03T21:00:00.000Z',
    });
  });

  it('refuses a bundle of a simulation where no root is named', async () => {
    const { code, out } = await strongroom('evidence', 'verify', file('plain.tar'));
    expect({ code, out }).toMatchObject({
      code: 1,
      out: expect.stringContaining('ATTESTATION_UNTRUSTED_ROOT'),
    });
  });

  it('refuses what is no bundle', async () => {
    file('no.tar', 'no');
    expect(await verify('no.tar')).toMatchObject({
      code: 2,
      err: expect.stringContaining('BUNDLE_MALFORMED'),
    });
    const { code, out } = await verify('no.tar', '--json');
    expect({ code, error: JSON.parse(out).error.code }).toEqual({ code: 2, error: 'BUNDLE_MALFORMED' });
    expect(await strongroom('evidence', 'verify')).toMatchObject({ code: 2 });
    expect(await verify('missing.tar')).toMatchObject({ code: 2 });
  });

  it.skipIf(CHROMIUM === undefined)(
    'writes a page that can be read (skipped where chromium is missing)',
    async () => {
      await verify('plain.tar', '--html', file('page.html'));
      const markup = readFileSync(file('page.html'), 'utf8');
      const browser = await openBrowser();
      try {
        for (const [width, colours] of [
          [360, 'light'],
          [1280, 'dark'],
        ] as const) {
          const seen = await look(browser, markup, { width, colours });
          expect(seen).toMatchObject({ fetched: [], complaints: [], faint: [] });
          expect(seen.overflowPx).toBeLessThanOrEqual(0);
          expect(seen.measured).toBeGreaterThan(30);
        }
      } finally {
        await browser.close();
      }
    },
  );
});

describeWithVectors('of an image file', (vectors) => {
  const eif = (name: string) => join(vectors, 'eif', name);

  it('bundles what it measures to, and is held against the file again', async () => {
    const { measurements } = await measureEif(fileStream(eif('v4-x86_64.eif')), { at: new Date() });
    const { pcr0, pcr1, pcr2 } = measurements;
    const own = await newRelease({ pcrs: { 0: pcr0, 1: pcr1, 2: pcr2 } });
    const made = await bundle('eif.tar', {
      pcrs: undefined,
      image: eif('v4-x86_64.eif'),
      deployment: file('eif-deployment.json', own.deployment),
      policy: file('eif-policy.json', own.policy),
      attestation: file('eif-attestation.cbor', own.attestation),
      release: file('eif-release.json', own.release),
      model: file('eif-manifest.json', own.modelManifests[0]),
      root: file('eif-root.pem', own.rootPem),
    });
    expect(made).toMatchObject({ code: 0 });
    const again = (image: string) =>
      strongroom(
        'evidence',
        'verify',
        file('eif.tar'),
        '--root',
        file('eif-root.pem'),
        '--image',
        eif(image),
      );
    expect(await again('v4-x86_64.eif')).toMatchObject({ code: 0, out: expect.stringContaining('[x] 4.2') });
    const other = await again('v4-aarch64.eif');
    expect(other).toMatchObject({ code: 1, out: expect.stringContaining('[!] 4.2') });
    expect(other.out).toContain('code: BUNDLE_MISMATCH');
  });
});
