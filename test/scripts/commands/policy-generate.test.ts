import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatRelease, releaseDeployment } from '../../../review/releases.ts';
import { command } from '../../../scripts/commands/policy-generate.ts';
import { pcrOfMeasuredBytes, pcrOfText } from '../../../shared/pcr.ts';
import { eifFile, GOOD } from '../../review/image/eif/eif-file.ts';

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

describe('releases of policy generate', () => {
  const file = (name: string, content: string | Uint8Array) => {
    const path = join(folder, name);
    writeFileSync(path, content);
    return path;
  };
  const deployment16 = () => hex(pcrOfMeasuredBytes(deploymentBytes));
  const releasesOf = async (...args: string[]) => JSON.parse((await run(...args, '--json')).stdout).releases;
  const manifest = (more: object = {}) =>
    formatRelease({
      name: 'strongroom',
      version: '1',
      pcrs: { 0: IMAGE, 1: 'a1'.repeat(48), 2: 'a2'.repeat(48) },
      deployments: [releaseDeployment(deploymentBytes)],
      ...more,
    });

  it('measure the image file', async () => {
    const image = file('image.eif', eifFile({ sections: GOOD }));
    const [release] = await releasesOf('--image', image, '--deployment', deploymentPath);
    // The parts of the synthetic image that PCR0 covers, in order.
    const measured = Buffer.from('a kernelconsole=ttyS0bootstrapapplication');
    expect(release).toMatchObject({ pcr0: hex(pcrOfMeasuredBytes(measured)), pcr16: deployment16() });
  });

  it.each([
    ['plain', { PCR0: IMAGE, PCR8: NEXT_IMAGE }],
    ['by index', { 0: IMAGE }],
    [
      'as nitro-cli prints them',
      { Measurements: { HashAlgorithm: 'Sha384 { ... }', PCR0: IMAGE }, Other: 1 },
    ],
  ])('take registers from a file, %s', async (_, content) => {
    const pcrs = file('pcrs.json', JSON.stringify(content));
    const releases = await releasesOf('--pcrs', pcrs, '--deployment', deploymentPath, '--model', 'iris');
    expect(releases).toEqual([{ pcr0: IMAGE, pcr16: deployment16(), modelName: 'iris' }]);
  });

  it('take PCR16 from that file too, if it is there and the model is named', async () => {
    const pcrs = file(
      'both.json',
      JSON.stringify({ Measurements: { PCR0: IMAGE }, surroundings: { PCR16 } }),
    );
    const expected = [{ pcr0: IMAGE, pcr16: PCR16, modelName: 'iris' }];
    expect(await releasesOf('--pcrs', pcrs, '--model', 'iris')).toEqual(expected);
    expect(await releasesOf('--release', `pcrs=${pcrs},model=iris`)).toEqual(expected);
    await expect(run('--pcrs', pcrs, '--deployment', deploymentPath)).rejects.toMatchObject({
      code: 'USAGE',
    });
  });

  it('stand side by side, each with its own image, deployment and models', async () => {
    const releases = await releasesOf(
      ...['--release', `pcr0=${IMAGE},deployment=${deploymentPath},model=mnist`],
      ...['--release', `pcr0=${NEXT_IMAGE},pcr16=${PCR16},model=iris,model=mnist`],
    );
    expect(releases).toEqual([
      { pcr0: IMAGE, pcr16: deployment16(), modelName: 'mnist' },
      { pcr0: NEXT_IMAGE, pcr16: PCR16, modelName: 'iris' },
      { pcr0: NEXT_IMAGE, pcr16: PCR16, modelName: 'mnist' },
    ]);
  });

  it('come from a release manifest, image and deployments together', async () => {
    const path = file('release.json', manifest());
    expect(await releasesOf('--release', `manifest=${path}`)).toEqual([
      { pcr0: IMAGE, pcr16: deployment16(), modelName: 'iris' },
      { pcr0: IMAGE, pcr16: deployment16(), modelName: 'mnist' },
    ]);
  });

  it.each<[string, () => string]>([
    ['a release without image', () => `deployment=${deploymentPath}`],
    ['a release with two images', () => `pcr0=${IMAGE},pcr0=${NEXT_IMAGE},deployment=${deploymentPath}`],
    ['a release without deployment', () => `pcr0=${IMAGE},model=iris`],
    ['an unknown part', () => `pcr0=${IMAGE},pcr1=${IMAGE}`],
    ['a part without value', () => `pcr0=,deployment=${deploymentPath}`],
    [
      'a deployment that the manifest does not name',
      () => `manifest=${file('m.json', manifest())},pcr16=${PCR16}`,
    ],
    [
      'a release that was withdrawn',
      () =>
        `manifest=${file('w.json', manifest({ withdrawn: { at: new Date(0), reason: 'a fault' } }))},deployment=${deploymentPath}`,
    ],
    ['registers without an image', () => `pcrs=${file('p.json', JSON.stringify({ PCR8: IMAGE }))}`],
  ])('are refused: %s', async (_, release) => {
    await expect(run('--release', release())).rejects.toMatchObject({ code: 'USAGE' });
  });

  it.each([
    ['no object', '[]'],
    ['a member that is no register', JSON.stringify({ PCR0: IMAGE, PCR32: IMAGE })],
    ['a digest of another length', JSON.stringify({ PCR0: 'ab' })],
    ['the same register twice', JSON.stringify({ PCR0: IMAGE, 0: IMAGE })],
    ['a repeated member', `{"PCR0":"${IMAGE}","PCR0":"${NEXT_IMAGE}"}`],
    ['nothing', '{}'],
  ])('are refused of a file of registers with %s', async (_, content) => {
    const pcrs = file('bad.json', content);
    await expect(run('--pcrs', pcrs, '--deployment', deploymentPath)).rejects.toMatchObject({
      code: 'REGISTERS_UNREADABLE',
    });
  });

  it('take the account from the role unless it is given', async () => {
    const stdout = new PassThrough();
    const io = {
      stdin: new PassThrough(),
      stdout,
      stderr: new PassThrough(),
      signal: new AbortController().signal,
    };
    const args = [...WHO.slice(2), '--pcr0', IMAGE, '--pcr16', PCR16, '--model', 'iris'];
    expect(await command.run(args, io)).toBe(0);
    await expect(command.run(['--account', '444455556666', ...args], io)).rejects.toMatchObject({
      code: 'KEY_POLICY_INPUT',
    });
  });
});
