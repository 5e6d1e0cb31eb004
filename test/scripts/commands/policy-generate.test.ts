import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { command } from '../../../scripts/commands/policy-generate.ts';
import { pcrOfMeasuredBytes, pcrOfText } from '../../../shared/pcr.ts';

const ROLE = 'arn:aws:iam::111122223333:role';
const IMAGE = 'd9'.repeat(48);
const NEXT_IMAGE = '6b'.repeat(48);
const PCR16 = 'a1'.repeat(48);
const WHO = [
  '--account',
  '111122223333',
  '--role',
  `${ROLE}/EnclaveHost`,
  '--admin',
  `${ROLE}/KeyAdmin`,
  '--sealer',
  `${ROLE}/Owner`,
];

let folder = '';
let deploymentPath = '';
let deploymentBytes = Buffer.alloc(0);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'policy-generate-'));
  deploymentPath = join(folder, 'deployment.json');
  const signer = generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'pem' });
  deploymentBytes = Buffer.from(
    JSON.stringify({
      format: 'strongroom-deployment/1',
      models: [
        { name: 'iris', minimumVersion: 1, signer },
        { name: 'mnist', contentId: 'ab'.repeat(32) },
      ],
      kmsKeys: ['arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab'],
      clients: 'anyone',
    }),
  );
  writeFileSync(deploymentPath, deploymentBytes);
});
afterAll(() => rmSync(folder, { recursive: true }));

async function run(...args: string[]) {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const exit = await command.run([...WHO, ...args], {
    stdin: new PassThrough(),
    stdout,
    stderr,
    signal: new AbortController().signal,
  });
  return { exit, stdout: String(stdout.read() ?? ''), stderr: String(stderr.read() ?? '') };
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

describe('strongroom policy generate', () => {
  it('writes the policy to standard output and its meaning to standard error', async () => {
    const { exit, stdout, stderr } = await run('--pcr0', IMAGE, '--pcr16', PCR16, '--model', 'iris');
    expect(exit).toBe(0);
    expect(JSON.parse(stdout).Statement[0].Condition.StringEqualsIgnoreCase).toEqual({
      'kms:RecipientAttestation:PCR0': IMAGE,
      'kms:RecipientAttestation:PCR16': PCR16,
      'kms:RecipientAttestation:PCR3': hex(pcrOfText(`${ROLE}/EnclaveHost`)),
    });
    expect(stderr).toMatch(/^Only image d9d9d9d9… running deployment a1a1a1a1… on role EnclaveHost/);
  });

  it('measures the deployment document and takes the models that it names', async () => {
    const { stdout } = await run('--pcr0', IMAGE, '--deployment', deploymentPath, '--json');
    const { releases, sentence, policy, pcr3 } = JSON.parse(stdout);
    const pcr16 = hex(pcrOfMeasuredBytes(deploymentBytes));
    expect(releases).toEqual([
      { pcr0: IMAGE, pcr16, modelName: 'iris' },
      { pcr0: IMAGE, pcr16, modelName: 'mnist' },
    ]);
    expect(sentence).toContain('models iris and mnist');
    expect(policy.Version).toBe('2012-10-17');
    expect(pcr3).toHaveLength(96);
  });

  it('pairs the first image with the first deployment and the second with the second', async () => {
    const { stdout } = await run(
      ...['--pcr0', IMAGE, '--deployment', deploymentPath],
      ...['--pcr0', NEXT_IMAGE, '--pcr16', PCR16, '--model', 'iris', '--json'],
    );
    const pcr16 = hex(pcrOfMeasuredBytes(deploymentBytes));
    expect(JSON.parse(stdout).releases).toEqual([
      { pcr0: IMAGE, pcr16, modelName: 'iris' },
      { pcr0: NEXT_IMAGE, pcr16: PCR16, modelName: 'iris' },
    ]);
  });

  it.each([
    ['an image without deployment', ['--pcr0', IMAGE, '--model', 'iris'], 'USAGE'],
    [
      'two images with one deployment',
      ['--pcr0', IMAGE, '--pcr0', NEXT_IMAGE, '--pcr16', PCR16, '--model', 'iris'],
      'USAGE',
    ],
    ['no image', ['--pcr16', PCR16, '--model', 'iris'], 'USAGE'],
    ['a measurement without model', ['--pcr0', IMAGE, '--pcr16', PCR16], 'USAGE'],
    ['a debug image', ['--pcr0', '0'.repeat(96), '--pcr16', PCR16, '--model', 'iris'], 'KEY_POLICY_INPUT'],
    ['an unknown option', ['--pcr1', IMAGE], 'ERR_PARSE_ARGS_UNKNOWN_OPTION'],
    [
      'a deployment file that is not there',
      ['--pcr0', IMAGE, '--deployment', '/nowhere/deployment.json'],
      'ENOENT',
    ],
  ])('refuses %s', async (_, args, code) => {
    await expect(run(...args)).rejects.toMatchObject({ code });
  });

  it('refuses a model that the deployment does not name', async () => {
    await expect(
      run('--pcr0', IMAGE, '--deployment', deploymentPath, '--model', 'other'),
    ).rejects.toMatchObject({ code: 'USAGE' });
  });

  it('refuses a file that is no deployment document, and one that is too long', async () => {
    const other = join(folder, 'other.json');
    writeFileSync(other, '{}');
    await expect(run('--pcr0', IMAGE, '--deployment', other)).rejects.toMatchObject({
      code: 'DEPLOYMENT_MALFORMED',
    });
    writeFileSync(other, Buffer.concat([deploymentBytes, Buffer.alloc(65_536, 0x20)]));
    await expect(run('--pcr0', IMAGE, '--deployment', other)).rejects.toMatchObject({
      code: 'DEPLOYMENT_MALFORMED',
    });
  });
});
