import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import {
  CreateKeyCommand,
  DescribeKeyCommand,
  ReEncryptCommand,
  RotateKeyOnDemandCommand,
} from '@aws-sdk/client-kms';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { agesOfWraps } from '../../../owner/key-life/due.ts';
import { rewrapModel } from '../../../owner/key-life/rewrap.ts';
import { findSealedModels, type RewrapReport, rewrapAll } from '../../../owner/key-life/rewrap-all.ts';
import { folderPlace } from '../../../owner/key-life/sealed-place.ts';
import { noteWrap, readWrapNote, shortMaterial } from '../../../owner/key-life/wrap-label.ts';
import { asideOf } from '../../../owner/leftovers.ts';
import { encryptionContextOf, parseHead } from '../../../shared/sealed-model/head.ts';
import { type KeyFile, parseKeyFile } from '../../../shared/sealed-model/key-file.ts';
import { encodeKeyFile } from '../../../shared/sealed-model/key-file-write.ts';
import { allow, keyPolicy, refusal } from '../../simulator/kms/support.ts';
import {
  administrator,
  byRecovery,
  deploymentOf,
  newOwner,
  type Owner,
  partsOf,
  sealer,
  stranger,
} from './support.ts';

let owner: Owner;
beforeAll(async () => {
  owner = await newOwner();
});
afterAll(() => owner.close());

const renew = { kind: 'renew' } as const;
const moveTo = (to: string, remove: readonly string[] = []) =>
  ({ kind: 'move', to: [to], remove, key: byRecovery }) as const;
const keyFileOf = (folder: string): KeyFile => parseKeyFile(readFileSync(join(folder, 'key.json')));
const rotate = (KeyId: string) => owner.as.administrator.send(new RotateKeyOnDemandCommand({ KeyId }));
const materialOf = async (KeyId: string) =>
  shortMaterial(
    (await owner.as.administrator.send(new DescribeKeyCommand({ KeyId }))).KeyMetadata
      ?.CurrentKeyMaterialId as string,
  );
const expectOnlyKeyFileChanged = (before: ReturnType<typeof partsOf>, folder: string): void => {
  const after = partsOf(folder);
  expect({ ...after, 'key.json': '' }).toEqual({ ...before, 'key.json': '' });
  expect(after['key.json']).not.toBe(before['key.json']);
  expect(readdirSync(folder).sort()).toEqual(['head', 'key.json', 'manifest.json', 'payload']);
};

describe('within one KMS key', () => {
  it('moves the wrap to the newest material, touching key.json alone, and is recognised as done', async () => {
    const key = await owner.newKey('renewed');
    const { folder } = await owner.seal('renewed', [key]);
    const before = partsOf(folder);
    const old = await materialOf(key);
    await rotate(key);
    const result = await rewrapModel(
      owner.rewrap(folder, renew, { deployments: [deploymentOf('renewed', [key])] }),
    );
    const newest = await materialOf(key);
    expect(result).toMatchObject({
      changed: true,
      name: 'renewed',
      version: 3,
      wraps: [{ keyArn: key, outcome: 'renewed', fromMaterial: old, toMaterial: newest }],
      deployments: [{ concerns: true, opensWith: key, openedWith: key, unused: [] }],
    });
    expectOnlyKeyFileChanged(before, folder);
    expect(readWrapNote(keyFileOf(folder).wraps[0]?.label)?.material).toBe(newest);

    const again = partsOf(folder);
    expect(await rewrapModel(owner.rewrap(folder, renew))).toMatchObject({
      changed: false,
      wraps: [{ outcome: 'current' }],
    });
    expect(partsOf(folder)).toEqual(again);
  });

  it('reads nothing of the payload, so its size does not matter: it need not even be there', async () => {
    const key = await owner.newKey('absent');
    const { folder } = await owner.seal('absent', [key], { note: false });
    rmSync(join(folder, 'payload'));
    expect((await rewrapModel(owner.rewrap(folder, renew))).changed).toBe(true);
  });

  it('asks KMS about a wrap without a note, and leaves a note behind', async () => {
    const key = await owner.newKey('unnoted');
    const { folder } = await owner.seal('unnoted', [key], { note: false });
    expect(keyFileOf(folder).wraps[0]).not.toHaveProperty('label');
    const material = await materialOf(key);
    const { wraps } = await rewrapModel(owner.rewrap(folder, renew));
    expect(wraps).toMatchObject([{ outcome: 'renewed', fromMaterial: material, toMaterial: material }]);
    expect((await rewrapModel(owner.rewrap(folder, renew))).changed).toBe(false);
    expect((await rewrapModel(owner.rewrap(folder, renew, { again: true }))).changed).toBe(true);
  });

  it('renews one of two wraps, and refuses a key that has none', async () => {
    const [one, two] = [await owner.newKey('pair'), await owner.newKey('pair')];
    const { folder } = await owner.seal('pair', [one, two], { note: false });
    const [, kept] = keyFileOf(folder).wraps;
    const { wraps } = await rewrapModel(owner.rewrap(folder, { kind: 'renew', keyArns: [one] }));
    expect(wraps.map(({ outcome }) => outcome)).toEqual(['renewed', 'kept']);
    expect(keyFileOf(folder).wraps[1]).toEqual(kept);
    const absent = await owner.newKey('pair');
    await expect(
      rewrapModel(owner.rewrap(folder, { kind: 'renew', keyArns: [absent] })),
    ).rejects.toMatchObject({ code: 'REWRAP_NO_SUCH_WRAP' });
  });

  it('needs no more from the policy than ReEncrypt on the same key: to a foreign key it is denied', async () => {
    const key = await owner.newKey('guarded');
    const { folder } = await owner.seal('guarded', [key]);
    const Policy = keyPolicy(
      { ...allow(sealer, 'kms:*'), Sid: 'Open' },
      { ...allow(administrator, 'kms:PutKeyPolicy'), Sid: 'Admin' },
    );
    const foreign = (
      await owner.as.administrator.send(
        new CreateKeyCommand({ Policy, BypassPolicyLockoutSafetyCheck: true }),
      )
    ).KeyMetadata?.Arn;
    const head = parseHead(readFileSync(join(folder, 'head')));
    const found = await refusal(
      owner.as.sealer.send(
        new ReEncryptCommand({
          CiphertextBlob: keyFileOf(folder).wraps[0]?.ciphertextBlob,
          SourceEncryptionContext: encryptionContextOf(head),
          DestinationEncryptionContext: encryptionContextOf(head),
          DestinationKeyId: foreign,
        }),
      ),
    );
    expect(found.name).toBe('AccessDeniedException');
    expect(found.explanation).toContain('DenyReEncryptToOtherKeys');
  });
});

describe('to another KMS key', () => {
  it('wraps the data key anew, and says which deployments can use it', async () => {
    const [old, next] = [await owner.newKey('moved'), await owner.newKey('moved')];
    const { folder } = await owner.seal('moved', [old]);
    const before = partsOf(folder);
    const result = await rewrapModel(
      owner.rewrap(folder, moveTo(next), {
        deployments: [
          deploymentOf('moved', [old]),
          deploymentOf('moved', [next, old]),
          deploymentOf('other', [old]),
        ],
      }),
    );
    expect(result.wraps).toMatchObject([
      { keyArn: old, outcome: 'kept' },
      { keyArn: next, outcome: 'added', toMaterial: await materialOf(next) },
    ]);
    expect(result.deployments).toMatchObject([
      { concerns: true, opensWith: old, openedWith: old, unused: [next] },
      { concerns: true, opensWith: next, openedWith: old, unused: [] },
      { concerns: false, why: 'does not name moved' },
    ]);
    expectOnlyKeyFileChanged(before, folder);
    expect(owner.stand.records.findLast(({ eventName }) => eventName === 'Encrypt')).toMatchObject({
      requestParameters: { keyId: next, encryptionContext: { 'strongroom-model': 'moved' } },
    });
    expect((await rewrapModel(owner.rewrap(folder, moveTo(next)))).changed).toBe(false);
  });

  it.each([
    [
      'the recovery key of somebody else',
      { kind: 'recovery', privateKey: stranger.privateKey } as const,
      'OWNER_RECOVERY_REFUSED',
    ],
    [
      'a data key of another model',
      { kind: 'kept', dataKey: new Uint8Array(32).fill(7) } as const,
      'SEALED_KEY_MISMATCH',
    ],
    [
      'a file that is no data key',
      { kind: 'kept', dataKey: new Uint8Array(16) } as const,
      'OWNER_KEY_UNUSABLE',
    ],
  ])('refuses %s before KMS wraps anything', async (_what, key, code) => {
    const name = `refused-${code.toLowerCase().replaceAll('_', '-')}`;
    const [old, next] = [await owner.newKey(name), await owner.newKey(name)];
    const { folder } = await owner.seal(name, [old]);
    const before = partsOf(folder);
    const calls = owner.stand.records.length;
    await expect(
      rewrapModel(owner.rewrap(folder, { kind: 'move', to: [next], remove: [], key })),
    ).rejects.toMatchObject({ code });
    expect(partsOf(folder)).toEqual(before);
    const made = owner.stand.records.slice(calls).map(({ eventName }) => eventName);
    expect(made).not.toContain('Encrypt');
  });

  it('refuses another model’s recovery wrap', async () => {
    const [one, two] = [await owner.newKey('first', 'second'), await owner.newKey('first', 'second')];
    const first = await owner.seal('first', [one]);
    const second = await owner.seal('second', [one]);
    const key = { ...byRecovery, file: second.recoveryFile };
    await expect(
      rewrapModel(owner.rewrap(first.folder, { kind: 'move', to: [two], remove: [], key })),
    ).rejects.toMatchObject({ code: 'OWNER_RECOVERY_REFUSED' });
  });

  it('leaves key.json as it was when the new key’s policy does not name the model', async () => {
    const [old, next] = [await owner.newKey('unnamed'), await owner.newKey('another')];
    const { folder } = await owner.seal('unnamed', [old]);
    const before = partsOf(folder);
    await expect(rewrapModel(owner.rewrap(folder, moveTo(next)))).rejects.toMatchObject({
      code: 'OWNER_KMS_REFUSED',
    });
    expect(partsOf(folder)).toEqual(before);
    expect(readdirSync(folder)).toHaveLength(4);
  });
});

describe('stranding', () => {
  it('is refused before KMS hears of it, and key.json stays', async () => {
    const [old, next] = [await owner.newKey('strand'), await owner.newKey('strand')];
    const { folder } = await owner.seal('strand', [old]);
    const before = partsOf(folder);
    const calls = owner.stand.records.length;
    const deployments = [deploymentOf('strand', [old])];
    await expect(
      rewrapModel(owner.rewrap(folder, moveTo(next, [old]), { deployments })),
    ).rejects.toMatchObject({
      code: 'REWRAP_WOULD_STRAND',
      message: expect.stringContaining('deployment.json'),
    });
    expect(owner.stand.records.length).toBe(calls);
    expect(partsOf(folder)).toEqual(before);
  });

  it('does not happen where the deployment lists the new key, or there is none, or it pins another content', async () => {
    for (const [name, deployments] of [
      ['listed', (old: string, next: string) => [deploymentOf('listed', [old, next])]],
      ['nowhere', () => 'none' as const],
      [
        'pinned',
        (old: string) => [
          deploymentOf('pinned', [old], {
            contentId: 'ab'.repeat(32),
            minimumVersion: undefined,
            signer: undefined,
          }),
        ],
      ],
      ['newer', (old: string) => [deploymentOf('newer', [old], { minimumVersion: 4 })]],
    ] as const) {
      const [old, next] = [await owner.newKey(name), await owner.newKey(name)];
      const { folder } = await owner.seal(name, [old]);
      const given = deployments(old, next);
      const { wraps } = await rewrapModel(owner.rewrap(folder, moveTo(next, [old]), { deployments: given }));
      expect(wraps.map(({ outcome }) => outcome)).toEqual(['added', 'removed']);
      expect(keyFileOf(folder).wraps.map(({ keyArn }) => keyArn)).toEqual([next]);
    }
  });

  it('cannot be ruled out where nobody said what is deployed, so nothing is removed', async () => {
    const [one, two] = [await owner.newKey('silent'), await owner.newKey('silent')];
    const { folder } = await owner.seal('silent', [one, two]);
    const drop = { kind: 'move', to: [], remove: [one] } as const;
    await expect(rewrapModel(owner.rewrap(folder, drop))).rejects.toMatchObject({
      code: 'REWRAP_UNCHECKED',
    });
    const deployments = [deploymentOf('silent', [one, two])];
    const result = await rewrapModel(owner.rewrap(folder, drop, { deployments }));
    expect(result.deployments).toMatchObject([{ opensWith: two, openedWith: one }]);
    const last = { kind: 'move', to: [], remove: [two] } as const;
    await expect(rewrapModel(owner.rewrap(folder, last, { deployments: 'none' }))).rejects.toMatchObject({
      code: 'REWRAP_WOULD_STRAND',
    });
  });
});

describe('a key.json that somebody put there', () => {
  it('of another model is refused by its context, and by KMS if that was changed as well', async () => {
    const key = await owner.newKey('mine', 'theirs');
    const mine = await owner.seal('mine', [key]);
    const theirs = await owner.seal('theirs', [key]);
    cpSync(join(theirs.folder, 'key.json'), join(mine.folder, 'key.json'));
    await expect(rewrapModel(owner.rewrap(mine.folder, renew))).rejects.toMatchObject({
      code: 'SEALED_KEY_FILE_FOREIGN',
    });
    const head = parseHead(readFileSync(join(mine.folder, 'head')));
    const { wraps } = keyFileOf(theirs.folder);
    writeFileSync(join(mine.folder, 'key.json'), encodeKeyFile({ context: head.context, wraps }));
    await expect(rewrapModel(owner.rewrap(mine.folder, renew, { again: true }))).rejects.toMatchObject({
      code: 'OWNER_KMS_REFUSED',
      message: expect.stringContaining('InvalidCiphertextException'),
    });
  });

  it('as a link is not followed', async () => {
    const key = await owner.newKey('linked');
    const { folder } = await owner.seal('linked', [key]);
    cpSync(folder, join(owner.folder, 'copy'), { recursive: true });
    rmSync(join(folder, 'key.json'));
    symlinkSync(join(owner.folder, 'copy', 'key.json'), join(folder, 'key.json'));
    await expect(rewrapModel(owner.rewrap(folder, renew))).rejects.toMatchObject({
      code: 'OWNER_NOT_A_SEAL',
    });
  });
});

describe('two at the same time', () => {
  it('do not undo each other’s work: the second is refused, and what a killed one left is removed', async () => {
    const key = await owner.newKey('busy');
    const { folder } = await owner.seal('busy', [key], { note: false });
    const other = asideOf(join(folder, 'key.json'));
    writeFileSync(other, '');
    await expect(rewrapModel(owner.rewrap(folder, renew))).rejects.toMatchObject({ code: 'REWRAP_BUSY' });
    const [, , start] = /-(\d+)-(\d+)-[0-9a-f]{12}$/.exec(other) ?? [];
    const killed = other.replace(`-${start}-`, `-${Number(start) - 1}-`); // the same process id, another process
    renameSync(other, killed);
    const left: string[] = [];
    await rewrapModel(
      owner.rewrap(
        folderPlace(folder, ({ outcome }) => void left.push(outcome)),
        renew,
      ),
    );
    expect(left).toEqual(['removed']);
    expect(readdirSync(folder)).toHaveLength(4);
  });
});

describe('many models', () => {
  it('are done a few at a time, each on its own, and again only what is left', async () => {
    const names = Array.from({ length: 12 }, (_, index) => `fleet-${index}`);
    const key = await owner.newKey(...names);
    for (const name of names) await owner.seal(name, [key]);
    await rotate(key);
    const folders = await findSealedModels([join(owner.folder, 'fleet-')]);
    expect(folders).toHaveLength(12);
    const good = readFileSync(join(folders[4] as string, 'key.json'));
    writeFileSync(join(folders[4] as string, 'key.json'), '{}');

    let atOnce = 0;
    let most = 0;
    const kmsKey = async (keyArn: string) => ({
      keyArn,
      client: {
        send: async (command: never) => {
          most = Math.max(most, ++atOnce);
          return owner.as.sealer.send(command).finally(() => atOnce--);
        },
      } as never,
    });
    const stop = new AbortController();
    let reported = 0;
    const first = await rewrapAll(
      folders.map((folder) => folderPlace(folder)),
      (place) => owner.rewrap(place, renew, { kmsKey, signal: stop.signal }),
      { atOnce: 3, onReport: () => ++reported === 7 && stop.abort() },
    );
    const count = (reports: readonly RewrapReport[], outcome: string) =>
      reports.filter((report) => report.outcome === outcome).length;
    expect(most).toBeLessThanOrEqual(3);
    expect(count(first, 'refused')).toBe(1);
    expect(count(first, 'not-reached') + count(first, 'unreachable')).toBeGreaterThan(0);
    expect(first[4]).toMatchObject({ outcome: 'refused', error: { code: 'SEALED_KEY_FILE_MALFORMED' } });

    writeFileSync(join(folders[4] as string, 'key.json'), good);
    const calls = owner.stand.records.length;
    const second = await rewrapAll(
      folders.map((folder) => folderPlace(folder)),
      (place) => owner.rewrap(place, renew),
      { atOnce: 3 },
    );
    expect(count(second, 'current')).toBe(count(first, 'done'));
    expect(count(second, 'done') + count(second, 'current')).toBe(12);
    const reEncrypted = owner.stand.records.slice(calls).filter(({ eventName }) => eventName === 'ReEncrypt');
    expect(reEncrypted).toHaveLength(count(second, 'done'));
    expect((await agesOfWraps(folders, { kmsKey, askKms: true })).every(({ due }) => due === false)).toBe(
      true,
    );
  });

  it('are found below a folder, not inside a model, and not twice under two names', async () => {
    const key = await owner.newKey('nested');
    const { folder } = await owner.seal('nested', [key]);
    mkdirSync(join(owner.folder, 'tree/a/.hidden'), { recursive: true });
    cpSync(folder, join(owner.folder, 'tree/a/nested.sealed'), { recursive: true });
    cpSync(folder, join(owner.folder, 'tree/a/.hidden/nested.sealed'), { recursive: true });
    cpSync(folder, join(owner.folder, 'tree/nested.sealed'), { recursive: true });
    const tree = join(owner.folder, 'tree');
    const found = await findSealedModels([tree, `${tree}/../tree`]);
    expect(found).toEqual([join(tree, 'a/nested.sealed'), join(tree, 'nested.sealed')]);
    await expect(findSealedModels([tree, join(owner.folder, 'no-such-')])).rejects.toMatchObject({
      code: 'OWNER_MODEL_UNKNOWN',
    });
  });
});

describe('which wraps are due', () => {
  it('is told by labels, exactly by KMS, and not at all where neither says', async () => {
    const key = await owner.newKey('aged', 'unaged');
    const [aged, unaged] = [
      await owner.seal('aged', [key]),
      await owner.seal('unaged', [key], { note: false }),
    ];
    const kmsKey = async (keyArn: string) => ({ keyArn, client: owner.as.sealer });
    const folders = [aged.folder, unaged.folder];
    expect(await agesOfWraps(folders, { kmsKey, askKms: false })).toMatchObject([
      { name: 'aged', due: false, knownFrom: 'label', wrappedAt: expect.any(String) },
      { name: 'unaged', due: 'unknown', knownFrom: 'nothing' },
    ]);
    await rotate(key);
    expect((await agesOfWraps(folders, { kmsKey, askKms: false })).map(({ due }) => due)).toEqual([
      true,
      'unknown',
    ]);
    const parts = folders.map(partsOf);
    expect(await agesOfWraps(folders, { kmsKey, askKms: true })).toMatchObject([
      { due: true, knownFrom: 'kms' },
      { due: true, knownFrom: 'kms' },
    ]);
    expect(folders.map(partsOf)).toEqual(parts);
    expect(await agesOfWraps(folders, { kmsKey, askKms: false, keyArn: await owner.newKey('none') })).toEqual(
      [],
    );
  });

  it('is noted beside the owner’s own words, which are never cut', () => {
    const at = new Date('2030-05-06T07:08:09.123Z');
    const material = 'ab'.repeat(32);
    const label = noteWrap('primary', at, material);
    expect(label).toBe('primary; wrapped 2030-05-06T07:08:09Z, material abababababababab');
    expect(readWrapNote(label)).toEqual({
      at: new Date('2030-05-06T07:08:09Z'),
      material: 'abababababababab',
    });
    expect(noteWrap(label, at, undefined)).toBe('primary; wrapped 2030-05-06T07:08:09Z');
    const long = 'x'.repeat(100);
    expect(noteWrap(long, at, material)).toBe(long);
    for (const text of [undefined, 'wrapped yesterday', 'wrapped 2030-99-06T07:08:09Z', `${label} or so`]) {
      expect(readWrapNote(text)).toBeUndefined();
    }
  });
});
