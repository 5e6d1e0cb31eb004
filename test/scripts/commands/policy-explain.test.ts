import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, describe, expect, it } from 'vitest';
import { generateKeyPolicy } from '../../../review/policy/generate.ts';
import { main } from '../../../scripts/strongroom.ts';
import { buildDocument } from '../../shared/attestation/build.ts';
import { describeWithVectors } from '../../vectors.ts';

const ROLE = 'arn:aws:iam::111122223333:role';
const HOST = `${ROLE}/EnclaveHost`;
const IMAGE = 'd9'.repeat(48);
const PCR16 = 'a1'.repeat(48);
const KEY = 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab';

const folder = mkdtempSync(join(tmpdir(), 'strongroom-explain-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string, content: string | Uint8Array | object) => {
  const path = join(folder, name);
  writeFileSync(
    path,
    typeof content === 'string' || content instanceof Uint8Array ? content : JSON.stringify(content),
  );
  return path;
};
const policy = file(
  'policy.json',
  generateKeyPolicy({
    accountId: '111122223333',
    releases: [{ pcr0: IMAGE, pcr16: PCR16, modelName: 'iris' }],
    hostRoleArn: HOST,
    administratorArns: [`${ROLE}/KeyAdmin`],
    sealerArns: [`${ROLE}/Owner`],
  }),
);
const pcrs = file('pcrs.json', { PCR0: IMAGE, PCR16 });
const reviewed = [
  '--principal',
  HOST,
  '--pcrs',
  pcrs,
  '--encryption-context',
  'strongroom-model=iris',
  '--encryption-context',
  'strongroom-purpose=model-data-key',
];

async function run(...args: string[]) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const io = { stdin: new PassThrough(), stdout, stderr, signal: new AbortController().signal };
  const exit = await main(['policy', 'explain', ...args], io);
  return { exit, stdout: String(stdout.read() ?? ''), stderr: String(stderr.read() ?? '') };
}
const answer = async (...args: string[]) => {
  const { exit, stdout } = await run(policy, ...args, '--json');
  return { exit, ...JSON.parse(stdout) };
};

const time = (text: string) => ['--condition-key', `aws:CurrentTime=${text}`];

describe('strongroom policy explain', () => {
  it('names the statement that allows, with its line, and PCR3 is the caller’s role', async () => {
    const { stdout, exit } = await run(policy, ...reviewed);
    const line = readFileSync(policy, 'utf8')
      .split('\n')
      .findIndex((text) => text.includes('DecryptImage'));
    expect(exit).toBe(0);
    expect(stdout).toMatch(
      /^ALLOWED: kms:Decrypt by arn:aws:sts::111122223333:assumed-role\/EnclaveHost\/session, attestation: pcrs\.json\.\n/,
    );
    expect(stdout).toContain(`key policy, line ${line}: Allow "DecryptImage`);
    expect(stdout).toMatch(/- key policy, line \d+: Deny "DenyOtherImages" does not apply/);
  });

  it('says which condition of which statement a request fails, for every one of them', async () => {
    const found = await answer(
      ...reviewed,
      '--condition-key',
      'kms:ViaService=s3.eu-central-1.amazonaws.com',
      '--principal',
      `${ROLE}/Other`,
    );
    expect(found).toMatchObject({
      exit: 0,
      answer: 'deny',
      reason: 'explicit-deny',
      decidedBy: [{ policy: 'key policy', statement: 'DenyOtherHostRoles' }],
    });
    const [allow] = found.statements;
    expect(allow).toMatchObject({
      effect: 'Allow',
      applies: false,
      why: expect.stringMatching(
        /it is for .*EnclaveHost, not for .*; kms:RecipientAttestation:PCR3: expected/,
      ),
    });
  });

  it.each<[string, string[], string, string]>([
    ['no document', ['--principal', HOST], 'deny', 'explicit-deny'],
    ['a debug enclave', ['--principal', HOST, '--attestation', 'debug'], 'deny', 'explicit-deny'],
    [
      'the administrator putting a policy',
      ['--principal', `${ROLE}/KeyAdmin`, '--action', 'PutKeyPolicy'],
      'allow',
      'allow',
    ],
    [
      'an action in another case',
      ['--principal', `${ROLE}/KeyAdmin`, '--action', 'kms:putkeypolicy'],
      'allow',
      'allow',
    ],
    [
      'a stranger who looks',
      ['--principal', `${ROLE}/Other`, '--action', 'kms:DescribeKey'],
      'deny',
      'implicit-deny',
    ],
    [
      'the root user',
      ['--principal', 'arn:aws:iam::111122223333:root', '--action', 'kms:PutKeyPolicy'],
      'deny',
      'implicit-deny',
    ],
    [
      'a session by its own ARN',
      ['--principal', 'arn:aws:sts::111122223333:assumed-role/KeyAdmin/x', '--action', 'kms:PutKeyPolicy'],
      'allow',
      'allow',
    ],
  ])('answers %s', async (_, args, expected, reason) => {
    expect(await answer(...args)).toMatchObject({ exit: 0, answer: expected, reason });
  });

  it('knows the IAM policies and grants of the context', async () => {
    const open = file('open.json', {
      Version: '2012-10-17',
      Statement: [
        {
          Sid: 'Account',
          Effect: 'Allow',
          Principal: { AWS: 'arn:aws:iam::111122223333:root' },
          Action: 'kms:*',
          Resource: '*',
        },
      ],
    });
    const context = file('context.json', {
      iamPolicies: {
        Reader: [
          {
            Version: '2012-10-17',
            Statement: [{ Sid: 'Read', Effect: 'Allow', Action: 'kms:Decrypt', Resource: '*' }],
          },
        ],
      },
      grants: [{ GrantId: 'g1', GranteePrincipal: `${ROLE}/Granted`, Operations: ['Decrypt'] }],
      keyMetadata: { Arn: KEY },
    });
    const ask = async (role: string) =>
      JSON.parse((await run(open, '--principal', `${ROLE}/${role}`, '--context', context, '--json')).stdout);
    expect(await ask('Reader')).toMatchObject({
      answer: 'allow',
      decidedBy: [{ statement: 'Account' }, { policy: 'identity policy 1', statement: 'Read' }],
      request: { keyArn: KEY },
    });
    expect(await ask('Granted')).toMatchObject({ answer: 'allow', decidedBy: [{ policy: 'grant g1' }] });
    expect(await ask('Other')).toMatchObject({ answer: 'deny' });
  });

  it('lists condition keys that the statements ask for and the request has not', async () => {
    const { absentKeys } = await answer('--principal', `${ROLE}/Owner`, '--action', 'kms:ReEncryptFrom');
    expect(absentKeys).toEqual([
      'kms:EncryptionContext:strongroom-model',
      'kms:EncryptionContext:strongroom-purpose',
      'kms:ReEncryptOnSameKey',
    ]);
  });

  it('exits 1 when the answer is not the expected one', async () => {
    expect(await answer(...reviewed, '--expect', 'allow')).toMatchObject({ exit: 0 });
    expect(await answer(...reviewed, '--expect', 'deny')).toMatchObject({ exit: 1, answer: 'allow' });
  });

  it('takes registers out of a document that is genuine, and refuses any other as KMS does', async () => {
    const { bytes, anchor } = buildDocument();
    const document = file('document.cbor', bytes);
    const root = file('root.der', anchor.certificate);
    expect(await answer('--principal', HOST, '--attestation', document, '--root', root)).toMatchObject({
      answer: 'deny',
      request: { attestation: 'document.cbor' },
    });
    expect(await answer('--principal', HOST, '--attestation', document)).toMatchObject({
      exit: 1,
      error: { code: 'ATTESTATION_UNTRUSTED_ROOT' },
    });
    expect(await answer('--principal', HOST, '--attestation', policy)).toMatchObject({ exit: 2 });
  });

  it('shows no text of a policy that moves the cursor', async () => {
    const hostile = file('hostile.json', {
      Version: '2012-10-17',
      Statement: [
        {
          Sid: '\u001b[2J',
          Effect: 'Allow',
          Principal: '*',
          Action: 'kms:*',
          Resource: '*',
          Condition: { StringEquals: { 'aws:x\u001b[2J': 'y' } },
        },
      ],
    });
    const { stdout } = await run(hostile, '--principal', HOST);
    expect(stdout).not.toContain('\u001b');
  });

  it('asks for now, or for one given time under both of its names', async () => {
    const window = (Condition: object) =>
      file('window.json', {
        Version: '2012-10-17',
        Statement: [
          { Effect: 'Allow', Principal: { AWS: HOST }, Action: 'kms:Decrypt', Resource: '*', Condition },
        ],
      });
    const explained = async (Condition: object, ...args: string[]) => {
      const { stdout } = await run(window(Condition), '--principal', HOST, ...args, '--json');
      return JSON.parse(stdout).answer;
    };
    const over = { DateLessThan: { 'aws:CurrentTime': '2026-01-01T00:00:00Z' } };
    const begun = { NumericGreaterThan: { 'aws:EpochTime': '1767225600' } };
    expect(await explained(over)).toBe('deny');
    expect(await explained(begun)).toBe('allow');
    expect(await explained(over, ...time('2025-12-31T23:59:59Z'))).toBe('allow');
    expect(await explained(begun, ...time('2025-12-31'))).toBe('deny');
    expect(await explained(over, '--condition-key', 'AWS:EpochTime=1767225599')).toBe('allow');
  });

  it.each<[string, string[], string]>([
    ['no policy', [], 'USAGE'],
    ['no principal', [policy], 'USAGE'],
    ['a principal that is no ARN', [policy, '--principal', 'EnclaveHost'], 'USAGE'],
    ['an action that KMS has not', [policy, '--principal', HOST, '--action', 'kms:OpenSesame'], 'USAGE'],
    [
      'an image and a document',
      [policy, '--principal', HOST, '--pcrs', pcrs, '--attestation', 'debug'],
      'USAGE',
    ],
    ['a deployment in no image', [policy, '--principal', HOST, '--deployment', pcrs], 'USAGE'],
    [
      'a register as a condition key',
      [policy, '--principal', HOST, '--condition-key', 'kms:RecipientAttestation:PCR0=x'],
      'USAGE',
    ],
    ['two times', [policy, '--principal', HOST, ...time('2027-01-31'), ...time('2027-02-01')], 'USAGE'],
    ['a time that is none', [policy, '--principal', HOST, ...time('soon')], 'USAGE'],
    ['a condition key without value', [policy, '--principal', HOST, '--condition-key', 'x'], 'USAGE'],
    ['a policy that is none', [pcrs, '--principal', HOST], 'POLICY_ELEMENT'],
    ['an answer that nobody gives', [policy, '--principal', HOST, '--expect', 'maybe'], 'USAGE'],
  ])('exits 2 with %s', async (_, args, code) => {
    const { exit, stdout } = await run(...args, '--json');
    expect(exit).toBe(2);
    expect(JSON.parse(stdout)).toMatchObject({ error: { code } });
  });
});

describeWithVectors('policy explain over the labelled policies', (vectors) => {
  const place = join(vectors, 'policies');
  const expected = JSON.parse(readFileSync(join(place, 'expected.json'), 'utf8'));
  const plain = ['host', 'operator', 'admin', 'rootUser'];

  it('gives the answer of every probe that needs no more than its options', async () => {
    const wrong: object[] = [];
    let asked = 0;
    for (const { file: path, probes } of expected.vectors.slice(0, 60)) {
      if (probes === 'refuse-policy') continue;
      for (const probe of probes) {
        if (
          probe.context !== undefined ||
          !plain.includes(probe.principal) ||
          !['none', 'reviewed', 'debug'].includes(probe.attestation)
        )
          continue;
        if (probe.action === 'kms:ReEncryptFrom' || probe.action === 'kms:CreateGrant') continue;
        if (asked++ % 8 !== 0) continue;
        const arn = String(expected.principals[probe.principal]).split(' ')[0] as string;
        const attestation =
          probe.attestation === 'reviewed'
            ? ['--pcrs', file('reviewed.json', expected.attestations.reviewed)]
            : ['--attestation', probe.attestation];
        const id = path.split('/')[1].split('-')[0];
        const context = join(place, 'context', `${id}.json`);
        const { stdout } = await run(
          join(place, path),
          ...[
            '--principal',
            arn,
            '--session',
            'i-0abcdef1234567890',
            '--action',
            probe.action,
            '--key',
            expected.key,
          ],
          ...attestation,
          ...(existsSync(context) ? ['--context', context] : []),
          '--json',
        );
        const found = JSON.parse(stdout).answer;
        if (found !== probe.expect) wrong.push({ path, probe, found });
      }
    }
    expect(asked).toBeGreaterThan(100);
    expect(wrong).toEqual([]);
  });
});
