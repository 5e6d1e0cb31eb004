import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cpioArchive } from '../../../review/image/cpio.ts';
import { parseRelease } from '../../../review/releases.ts';
import { main } from '../../../scripts/strongroom.ts';
import { pcrOfMeasuredBytes, pcrOfText } from '../../../shared/pcr.ts';
import { eifFile, GOOD, part } from '../../review/image/eif/eif-file.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'strongroom-image-inspect-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const file = (name: string, content: Uint8Array) => {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
};
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

async function run(...args: string[]) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const exit = await main(['image', ...args], {
    stdin: new PassThrough(),
    stdout,
    stderr,
    signal: new AbortController().signal,
  });
  return { exit, stdout: String(stdout.read() ?? ''), stderr: String(stderr.read() ?? '') };
}

async function ramdisk(path: string): Promise<Buffer> {
  const content = Buffer.from('hello');
  const pieces: Buffer[] = [];
  const entry = { kind: 'file', path, mode: 0o444, sizeBytes: content.length, content } as const;
  for await (const piece of cpioArchive([entry])) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

describe('image measure', () => {
  it('prints nitro-cli’s Measurements inside one JSON document, with PCR8 only if signed', async () => {
    const { exit, stdout } = await run('measure', file('good.eif', eifFile({ sections: GOOD })), '--json');
    expect(exit).toBe(0);
    const { Measurements, commandLine, signature, unmeasuredMetadata, image } = JSON.parse(stdout);
    expect(Object.keys(Measurements)).toEqual(['HashAlgorithm', 'PCR0', 'PCR1', 'PCR2']);
    expect(Measurements.HashAlgorithm).toBe('Sha384 { ... }');
    expect(Measurements.PCR2).toBe(hex(pcrOfMeasuredBytes(Buffer.from('application'))));
    expect({ commandLine, signature, unmeasuredMetadata }).toEqual({
      commandLine: 'console=ttyS0',
      signature: null,
      unmeasuredMetadata: { ImageName: 'test' },
    });
    expect(image.sections).toHaveLength(5);
  });

  it('adds PCR16, PCR3 and PCR4 for a deployment, a role and an instance', async () => {
    const deployment = Buffer.from(
      JSON.stringify({
        format: 'strongroom-deployment/1',
        models: [{ name: 'mnist', contentId: 'ab'.repeat(32) }],
        kmsKeys: ['arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab'],
        clients: 'anyone',
      }),
    );
    const role = 'arn:aws:iam::111122223333:role/EnclaveHost';
    const { stdout } = await run(
      'measure',
      file('good.eif', eifFile({ sections: GOOD })),
      ...['--deployment', file('deployment.json', deployment)],
      ...['--role', role, '--instance-id', 'i-0123456789abcdef0', '--json'],
    );
    expect(JSON.parse(stdout).surroundings).toEqual({
      PCR3: hex(pcrOfText(role)),
      PCR4: hex(pcrOfText('i-0123456789abcdef0')),
      PCR16: hex(pcrOfMeasuredBytes(deployment)),
    });
  });

  it('refuses with exit code 2 a role or an instance that cannot exist, and a deployment that no enclave takes', async () => {
    const image = file('good.eif', eifFile({ sections: GOOD }));
    const other = file('deployment-other.json', Buffer.from('{}'));
    for (const option of [
      ['--role', 'EnclaveHost'],
      ['--instance-id', '0123456789abcdef0'],
    ]) {
      expect(await run('measure', image, ...option)).toMatchObject({ exit: 2, stdout: '' });
    }
    const { exit, stdout } = await run('measure', image, '--deployment', other);
    expect(exit).not.toBe(0);
    expect(stdout).toBe('');
  });

  it('exits 2 with the cause for a file that is not acceptable, an absent one, and a folder', async () => {
    const spoiled = file('spoiled.eif', eifFile({ sections: GOOD, crc: 1 }));
    const { exit, stdout } = await run('measure', spoiled, '--json');
    expect(exit).toBe(2);
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'EIF_CRC' } });
    expect((await run('measure', join(folder, 'absent.eif'))).exit).toBe(2);
    expect((await run('measure', folder)).exit).toBe(2);
    expect((await run('measure')).exit).toBe(2);
    expect((await run('measure', spoiled, spoiled)).exit).toBe(2);
  });

  it('says what is not measured, and lets no text of the file move the cursor', async () => {
    const sections = GOOD.map((section) =>
      section.kind === 2 ? part('cmdline', 'quiet\u001b[2J\u202e\n') : section,
    );
    const { stdout } = await run('measure', file('cursor.eif', eifFile({ sections })));
    expect(stdout).toContain('command line  "quiet\\u001b[2J\\u202e\\n"');
    expect(stdout).toContain('Not measured, so anybody may have changed it:');
    expect(stdout).toMatch(/^PCR0 {2}[0-9a-f]{96}$/m);
    expect(stdout).toContain('PCR8  zero: the image is not signed');
  });
});

describe('image list', () => {
  it('lists the application, and with --all what boots it', async () => {
    const sections = [
      ...GOOD.filter(({ kind }) => kind !== 3),
      part('ramdisk', await ramdisk('init')),
      part('ramdisk', await ramdisk('cmd')),
    ];
    const image = file('list.eif', eifFile({ sections }));
    const { exit, stdout } = await run('list', image);
    expect(exit).toBe(0);
    expect(stdout).toBe(
      'Ramdisk 1: 1 entries, 1 files, 5 bytes\n' +
        '-0444  0:0              5  2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824  cmd\n',
    );
    const all = JSON.parse((await run('list', image, '--all', '--json')).stdout);
    expect(all.ramdisks.map(({ entries }: { entries: { path: string }[] }) => entries[0]?.path)).toEqual([
      'init',
      'cmd',
    ]);
  });

  it('lists the application even if what boots it is no archive, unless that is asked for', async () => {
    const sections = [...GOOD.slice(0, 4), part('ramdisk', await ramdisk('cmd'))];
    const image = file('odd-boot.eif', eifFile({ sections }));
    expect((await run('list', image)).stdout).toContain('Ramdisk 1: 1 entries');
    expect(await run('list', image, '--all')).toMatchObject({ exit: 2, stdout: '' });
  });

  it('lists nothing of a file that is not acceptable, or whose ramdisk is no archive', async () => {
    const sections = [...GOOD.slice(0, 3), part('ramdisk', await ramdisk('init'))];
    const spoiled = file('spoiled-list.eif', eifFile({ sections, crc: 1 }));
    expect(await run('list', spoiled)).toMatchObject({ exit: 2, stdout: '' });
    const noArchive = file('no-archive.eif', eifFile({ sections: GOOD }));
    expect(await run('list', noArchive)).toMatchObject({ exit: 2, stdout: '' });
  });
});

describe('image release', () => {
  const deployment = JSON.stringify({
    format: 'strongroom-deployment/1',
    models: [{ name: 'iris', contentId: 'ab'.repeat(32) }],
    kmsKeys: ['arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab'],
    clients: 'anyone',
  });

  it('writes a manifest with the registers that image measure prints', async () => {
    const image = file('released.eif', eifFile({ sections: GOOD }));
    const reviewed = file('reviewed.json', Buffer.from(deployment));
    const measured = JSON.parse((await run('measure', image, '--deployment', reviewed, '--json')).stdout);
    const { exit, stdout } = await run(
      ...['release', image, '--name', 'strongroom', '--version', '1.4.0', '--deployment', reviewed],
    );
    expect(exit).toBe(0);
    const release = parseRelease(Buffer.from(stdout));
    const { PCR0, PCR1, PCR2 } = measured.Measurements;
    expect(release).toMatchObject({
      name: 'strongroom',
      version: '1.4.0',
      pcrs: { 0: PCR0, 1: PCR1, 2: PCR2 },
    });
    expect(release.deployments).toMatchObject([{ pcr16: measured.surroundings.PCR16, models: ['iris'] }]);
  });

  it('writes nothing without a name, or with one that reports could not show', async () => {
    const image = file('unnamed.eif', eifFile({ sections: GOOD }));
    for (const names of [
      ['--version', '1'],
      ['--name', 'a\u001b[2J', '--version', '1'],
    ]) {
      const { exit, stdout } = await run('release', image, ...names);
      expect({ exit, stdout }).toEqual({ exit: 2, stdout: '' });
    }
  });
});
