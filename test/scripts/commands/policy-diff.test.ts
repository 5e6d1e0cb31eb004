import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, describe, expect, it } from 'vitest';
import { generateKeyPolicy } from '../../../review/policy/generate.ts';
import { formatRelease } from '../../../review/releases.ts';
import { main } from '../../../scripts/strongroom.ts';

const ROLE = 'arn:aws:iam::111122223333:role';
const folder = mkdtempSync(join(tmpdir(), 'strongroom-diff-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string, content: string) => {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
};
const release = (byte: string) => ({ pcr0: byte.repeat(48), pcr16: 'a1'.repeat(48), modelName: 'iris' });
const policy = (...bytes: string[]) =>
  generateKeyPolicy({
    accountId: '111122223333',
    releases: bytes.map(release),
    hostRoleArn: `${ROLE}/EnclaveHost`,
    administratorArns: [`${ROLE}/KeyAdmin`],
    sealerArns: [`${ROLE}/Owner`],
  });
const before = file('old.json', policy('d9'));
const after = file('new.json', policy('d9', '6b'));

async function run(...args: string[]) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const io = { stdin: new PassThrough(), stdout, stderr, signal: new AbortController().signal };
  const exit = await main(['policy', 'diff', ...args], io);
  return { exit, stdout: String(stdout.read() ?? ''), stderr: String(stderr.read() ?? '') };
}

describe('strongroom policy diff', () => {
  it('exits 0 where nothing changes and 1 where something does', async () => {
    expect(await run(before, before)).toMatchObject({
      exit: 0,
      stdout: expect.stringMatching(/^Nothing changes/),
    });
    expect(await run(before, after)).toMatchObject({
      exit: 1,
      stdout: expect.stringMatching(/^Role EnclaveHost gains kms:Decrypt/),
    });
  });

  it('prints one JSON document', async () => {
    const { exit, stdout } = await run(before, after, '--json');
    expect(exit).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({
      schema: { name: 'strongroom-policy-diff', version: 1 },
      same: false,
      changes: [
        {
          direction: 'gained',
          extent: 'all',
          actions: ['kms:Decrypt'],
          before: { answer: 'deny' },
          after: { answer: 'allow' },
        },
      ],
    });
    expect(JSON.parse((await run(before, before, '--json')).stdout)).toMatchObject({
      same: true,
      changes: [],
    });
  });

  it('calls images by the names of their releases, and the reviewed one so', async () => {
    const pcrs = { 0: '6b'.repeat(48), 1: 'a1'.repeat(48), 2: 'a2'.repeat(48) };
    const releases = file(
      'release.json',
      formatRelease({ name: 'strongroom', version: '2', pcrs, deployments: [] }),
    );
    expect((await run(before, after, '--releases', releases)).stdout).toMatch(
      /^Role EnclaveHost gains kms:Decrypt with release strongroom 2/,
    );
    const reviewed = file('pcrs.json', JSON.stringify({ PCR0: pcrs[0], PCR16: 'a1'.repeat(48) }));
    expect((await run(before, after, '--pcrs', reviewed)).stdout).toMatch(
      /^Role EnclaveHost gains kms:Decrypt with the reviewed image/,
    );
  });

  it.each<[string, string[], string]>([
    ['one policy', [before], 'USAGE'],
    ['three', [before, after, after], 'USAGE'],
    ['a key that is no ARN', [before, after, '--key', 'alias/x'], 'USAGE'],
    ['a role that is no ARN', [before, after, '--role', 'EnclaveHost'], 'USAGE'],
    ['a policy that is none', [before, file('none.json', '{}')], 'POLICY_ELEMENT'],
    ['a policy that is not there', [before, join(folder, 'absent.json')], 'INPUT_UNREADABLE'],
    ['a context that is none', [before, after, '--context', file('context.json', '[]')], 'REVIEW_CONTEXT'],
  ])('exits 2 with %s', async (_, args, code) => {
    const { exit, stdout } = await run(...args, '--json');
    expect(exit).toBe(2);
    expect(JSON.parse(stdout)).toMatchObject({ error: { code } });
  });
});
