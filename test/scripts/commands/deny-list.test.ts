import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { writeOwnerKeys } from '../../../owner/keygen.ts';
import { main } from '../../../scripts/strongroom.ts';
import { testCa, testClient } from '../../support/client-certificates.ts';

const APP = 'spiffe://models.example.org/app-1';
let folder = '';
let file = '';
let key = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sr-deny-'));
  await writeOwnerKeys(folder, ['signing']);
  [file, key] = [join(folder, 'deny-list.json'), join(folder, 'signing.key.pem')];
});
afterEach(() => rm(folder, { recursive: true }));

async function run(...args: string[]): Promise<{ code: number; said: string }> {
  let said = '';
  const sink = new Writable({
    write: (chunk, _encoding, done) => {
      said += chunk;
      done();
    },
  });
  const io = { stdin: process.stdin, stdout: sink, stderr: sink, signal: new AbortController().signal };
  return { code: await main(['deny-list', ...args], io), said };
}
const sign = (...args: string[]) => run('sign', file, '--key', key, ...args);
// biome-ignore lint/suspicious/noExplicitAny: looked into member by member
const show = async (...args: string[]): Promise<any> => {
  const { code, said } = await run(
    'show',
    file,
    '--signer',
    join(folder, 'signing.pub.pem'),
    '--json',
    ...args,
  );
  return { code, ...JSON.parse(said) };
};

describe('strongroom deny-list', () => {
  it('signs a first list, adds, takes out, and prolongs, each time with the next sequence', async () => {
    expect((await sign()).said).toContain('deny list 1');
    expect(await show()).toMatchObject({
      code: 0,
      signature: 'valid',
      sequence: 1,
      state: 'valid',
      denied: [],
    });
    const client = testClient(testCa(), { uris: [APP] });
    await writeFile(join(folder, 'stolen.pem'), client.cert);
    await sign('--deny', APP, '--deny', 'serial:5f2b', '--deny', 'subject:O=Example, CN=legacy-1');
    await sign('--deny-certificate', join(folder, 'stolen.pem'), '--undeny', 'serial:5f2b', '--deny', APP);
    const sha256 = client.certificate.fingerprint256.replaceAll(':', '').toLowerCase();
    expect(await show()).toMatchObject({
      code: 0,
      sequence: 3,
      denied: [APP, 'subject:O=Example, CN=legacy-1', `sha256:${sha256}`],
    });
    expect(JSON.parse((await sign('--hours', '2', '--json')).said)).toMatchObject({ file, sequence: 4 });
    expect((await show()).denied).toHaveLength(3);
    expect((await readdir(folder)).filter((name) => name.includes('partial'))).toEqual([]);
  });

  it('warns before the end, and says what it has not checked', async () => {
    await sign('--hours', '2');
    expect(await show('--within', '1')).toMatchObject({ code: 0, state: 'valid' });
    expect(await show('--within', '3')).toMatchObject({ code: 1, state: 'ends-soon' });
    const { code, said } = await run('show', file);
    expect(code).toBe(0);
    expect(said).toContain('not checked');
    expect(said).toContain('nobody');
  });

  it('takes another sequence when the last list was lost', async () => {
    await sign('--sequence', '100');
    expect((await show()).sequence).toBe(100);
  });

  it('changes nothing when it refuses', async () => {
    await sign('--deny', APP);
    const before = await readFile(file);
    await writeOwnerKeys(join(folder, 'other'), ['signing']);
    const refused: [number, string, string[]][] = [
      [1, 'DENY_LIST_UNSIGNED', ['--key', join(folder, 'other', 'signing.key.pem')]],
      [1, 'OWNER_NOT_DENIED', ['--undeny', `${APP}0`]],
      [2, 'USAGE', ['--deny', 'spiffe://models.example.org/*']],
      [2, 'USAGE', ['--deny', 'app-1']],
      [2, 'USAGE', ['--hours', '745']],
      [2, 'USAGE', ['--sequence', '0']],
      [2, 'INPUT_UNREADABLE', ['--deny-certificate', join(folder, 'absent.pem')]],
    ];
    for (const [exit, word, args] of refused) {
      const { code, said } = await sign(...args);
      expect({ code, said }).toMatchObject({ code: exit, said: expect.stringContaining(word) });
      expect(await readFile(file)).toEqual(before);
    }
    expect((await run('show', file, '--signer', join(folder, 'other', 'signing.pub.pem'))).code).toBe(1);
  });

  it('does not follow what is no deny list', async () => {
    await writeFile(file, 'mine');
    expect(await sign()).toMatchObject({ code: 2, said: expect.stringContaining('DENY_LIST_MALFORMED') });
    expect(await readFile(file, 'utf8')).toBe('mine');
    expect((await run('show', join(folder, 'absent'))).code).toBe(2);
    expect(existsSync(join(folder, 'absent'))).toBe(false);
  });
});
