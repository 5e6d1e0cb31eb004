import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { formatRelease, parseRelease, readReleases, releasesOfImage } from '../../review/releases.ts';
import { codeOf } from '../../shared/errors.ts';
import { pcrOfMeasuredBytes } from '../../shared/pcr.ts';

const PCRS = { 0: 'a0'.repeat(48), 1: 'a1'.repeat(48), 2: 'a2'.repeat(48) };
const DEPLOYMENT = Buffer.from('{}');
const SHA384 = createHash('sha384').update(DEPLOYMENT).digest('hex');
const valid = {
  format: 'strongroom-release/1',
  name: 'strongroom',
  version: '1.4.0',
  pcrs: PCRS,
  deployments: [{ sha384: SHA384, models: ['iris'] }],
};
const parse = (document: unknown) => parseRelease(Buffer.from(JSON.stringify(document)));
const folder = mkdtempSync(join(tmpdir(), 'releases-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('a release manifest', () => {
  it('gives registers a name, and the deployment its PCR16', () => {
    const release = parse(valid);
    expect(release).toMatchObject({ name: 'strongroom', version: '1.4.0', pcrs: PCRS });
    expect(release.deployments[0]?.pcr16).toBe(Buffer.from(pcrOfMeasuredBytes(DEPLOYMENT)).toString('hex'));
  });

  it('is read as it was written', () => {
    const hex = fc
      .uint8Array({ minLength: 48, maxLength: 48 })
      .map((bytes) => Buffer.from(bytes.fill(1, 0, 1)).toString('hex'));
    const name = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$/);
    const release = fc.record({
      name,
      version: name,
      pcrs: fc.record({ 0: hex, 1: hex, 2: hex, 8: hex }, { requiredKeys: ['0', '1', '2'] as never }),
      withdrawnAt: fc.date({ noInvalidDate: true, min: new Date(0), max: new Date('9999-01-01') }),
    });
    fc.assert(
      fc.property(release, ({ withdrawnAt, ...rest }) => {
        const written = {
          ...rest,
          deployments: parse(valid).deployments,
          withdrawn: { at: withdrawnAt, reason: 'a fault' },
        };
        expect(parseRelease(Buffer.from(formatRelease(written)))).toEqual(written);
      }),
    );
  });

  it.each<[string, unknown]>([
    ['another format', { ...valid, format: 'strongroom-release/2' }],
    ['no version', { ...valid, version: undefined }],
    ['an unknown member', { ...valid, pcr0: 'x' }],
    ['a register of zeros', { ...valid, pcrs: { ...PCRS, 0: '0'.repeat(96) } }],
    ['a register in upper case', { ...valid, pcrs: { ...PCRS, 0: 'A0'.repeat(48) } }],
    ['a register that is too short', { ...valid, pcrs: { ...PCRS, 1: 'a0'.repeat(47) } }],
    ['a register missing', { ...valid, pcrs: { 0: PCRS[0], 1: PCRS[1] } }],
    ['a register that the image does not determine', { ...valid, pcrs: { ...PCRS, 3: PCRS[0] } }],
    ['a name that moves the cursor', { ...valid, name: 'strong\u001b[2Jroom' }],
    ['an empty list of deployments', { ...valid, deployments: [] }],
    ['a deployment twice', { ...valid, deployments: [...valid.deployments, ...valid.deployments] }],
    ['a deployment without models', { ...valid, deployments: [{ sha384: SHA384, models: [] }] }],
    ['a withdrawal without a zone', { ...valid, withdrawn: { at: '2026-11-30T12:00:00', reason: 'x' } }],
    ['a list', [valid]],
  ])('is refused with %s', (_, document) => {
    expect(() => parse(document)).toThrow(expect.objectContaining({ code: 'RELEASE_MANIFEST' }));
  });

  it('is refused with a repeated member', () => {
    const text = JSON.stringify(valid).replace('"name"', '"name":"other","name"');
    expect(() => parseRelease(Buffer.from(text))).toThrow(/duplicate|twice|repeated/i);
  });
});

describe('a folder of release manifests', () => {
  const place = (name: string, files: Readonly<Record<string, unknown>>) => {
    const path = join(folder, name);
    mkdirSync(path);
    for (const [file, document] of Object.entries(files))
      writeFileSync(join(path, file), JSON.stringify(document));
    return path;
  };
  const code = (path: string) =>
    readReleases(path).then(
      () => undefined,
      (error: unknown) => codeOf(error),
    );

  it('is read whole, in order, and finds every name of an image', async () => {
    const path = place('good', {
      'b.json': valid,
      'a.json': { ...valid, version: '1.4.1' },
      'c.json': { ...valid, version: '1.5.0', pcrs: { ...PCRS, 0: 'b0'.repeat(48) } },
      'notes.txt': 'x',
    });
    const releases = await readReleases(path);
    expect(releases.map(({ version }) => version)).toEqual(['1.4.0', '1.4.1', '1.5.0']);
    expect(releasesOfImage(releases, PCRS[0].toUpperCase()).map(({ version }) => version)).toEqual([
      '1.4.0',
      '1.4.1',
    ]);
    expect(releasesOfImage(releases, 'cc'.repeat(48))).toEqual([]);
  });

  it('may be one file', async () => {
    expect(await readReleases(join(folder, 'good', 'b.json'))).toHaveLength(1);
  });

  it('is refused when empty, when two are of one version, and when one is no manifest', async () => {
    expect(await code(place('empty', {}))).toBe('RELEASES_UNUSABLE');
    expect(await code(place('twice', { 'a.json': valid, 'b.json': valid }))).toBe('RELEASES_UNUSABLE');
    expect(await code(place('other', { 'a.json': valid, 'b.json': { format: 'x' } }))).toBe(
      'RELEASE_MANIFEST',
    );
  });

  it('is refused when a manifest is too large, whatever it holds', async () => {
    const path = place('large', {});
    writeFileSync(join(path, 'a.json'), `${' '.repeat(70_000)}${JSON.stringify(valid)}`);
    expect(await code(path)).toBe('RELEASE_MANIFEST');
  });
});
