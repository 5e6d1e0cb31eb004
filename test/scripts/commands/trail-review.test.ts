import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatRelease } from '../../../review/releases.ts';
import { main } from '../../../scripts/strongroom.ts';
import { HOST, KEY, RELEASE, record } from '../../review/trail/records.ts';

const folder = mkdtempSync(join(tmpdir(), 'strongroom-trail-command-'));
afterAll(() => rmSync(folder, { recursive: true }));
const [good, bad, cut, releases] = ['good.json', 'bad.json', 'cut.json', 'releases'].map((name) =>
  join(folder, name),
) as [string, string, string, string];

beforeAll(() => {
  const records = (...list: readonly unknown[]) => JSON.stringify({ Records: list });
  writeFileSync(good, records(record()));
  writeFileSync(bad, records(record({ additionalEventData: undefined })));
  writeFileSync(cut, records(record(), record()).slice(0, -9));
  mkdirSync(releases);
  writeFileSync(join(releases, '1.4.0.json'), formatRelease(RELEASE));
});

async function run(...args: string[]) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const io = { stdin: new PassThrough(), stdout, stderr, signal: new AbortController().signal };
  const exit = await main(['trail', 'review', ...args], io);
  return { exit, stdout: String(stdout.read() ?? ''), stderr: String(stderr.read() ?? '') };
}
const asked = (): string[] => ['--key', KEY, '--releases', releases, '--role', HOST];

describe('strongroom trail review', () => {
  it.each<[string, () => string[], number, string]>([
    ['0 with nothing to object to', () => [good, ...asked()], 0, 'CLEAN'],
    ['1 with findings', () => [good, bad, ...asked()], 1, 'FINDINGS'],
    ['2 when a file could not be read whole', () => [good, cut, ...asked()], 2, 'UNREADABLE'],
    ['3 when no release manifests were given', () => [good, '--key', KEY], 3, 'UNDECIDED'],
    ['1 with findings, even then', () => [cut, bad, '--key', KEY], 1, 'FINDINGS'],
  ])('exits %s', async (_, args, exit, verdict) => {
    const found = await run(...args(), '--json');
    expect(found).toMatchObject({ exit, stderr: '' });
    expect(JSON.parse(found.stdout)).toMatchObject({
      schema: { name: 'strongroom-trail-review', version: 1 },
      verdict,
    });
  });

  it('begins with a sentence for people, and writes the page', async () => {
    const html = join(folder, 'trail.html');
    const { stdout } = await run(bad, ...asked(), '--html', html);
    expect(stdout).toMatch(/^CRITICAL: plaintext without attestation \(once\), between /);
    expect(readFileSync(html, 'utf8')).toMatch(/^<!doctype html>/);
  });

  it.each<[string, () => string[], string]>([
    ['no file', () => asked(), 'USAGE'],
    ['an alias for the key', () => [good, '--key', 'alias/x'], 'TRAIL_KEY'],
    ['a role that is no ARN', () => [good, '--role', 'EnclaveHost'], 'USAGE'],
    ['an unknown severity', () => [good, '--fail-on', 'awful'], 'USAGE'],
    ['a file that is not there', () => [join(folder, 'absent')], 'INPUT_UNREADABLE'],
    ['release manifests that are none', () => [good, '--releases', good], 'RELEASE_MANIFEST'],
    ['a page that cannot be written', () => [good, '--html', join(folder, 'no', 'such.html')], ''],
  ])('exits 2 for %s', async (_, args, code) => {
    const { exit, stdout } = await run(...args(), '--json');
    expect(exit).toBe(2);
    if (code !== '') expect(JSON.parse(stdout)).toMatchObject({ error: { code } });
  });
});
