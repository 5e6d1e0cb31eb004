/** What others need for the same bytes: `age`, typage and the AWS Encryption SDK for JavaScript. Seconds. */
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Duplex, Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import {
  AlgorithmSuiteIdentifier,
  buildClient,
  CommitmentPolicy,
  RawAesKeyringNode,
  RawAesWrappingSuiteIdentifier,
} from '@aws-crypto/client-node';
import { Decrypter, Encrypter, generateX25519Identity, identityToRecipient } from 'age-encryption';

export interface PeerResult {
  readonly name: string;
  readonly sizeBytes: number;
  readonly sealSeconds: number;
  readonly openSeconds: number;
}

async function timed<T>(work: () => Promise<T> | T): Promise<{ seconds: number; result: T }> {
  const start = performance.now();
  const result = await work();
  return { seconds: (performance.now() - start) / 1000, result };
}

/** From file to file in `folder`. Undefined if the program is not installed. */
export async function measureAge(
  folder: string,
  plaintextFile: string,
  sizeBytes: number,
): Promise<PeerResult | undefined> {
  if (spawnSync('age', ['--version']).status !== 0) return undefined;
  const { keyFile, recipient } = ageKey(folder);
  const [sealed, opened] = [join(folder, 'plain.age'), join(folder, 'plain.opened')];
  const seal = (): unknown => execFileSync('age', ['-r', recipient, '-o', sealed, plaintextFile]);
  const open = (): unknown => execFileSync('age', ['-d', '-i', keyFile, '-o', opened, sealed]);
  seal();
  open();
  const { seconds: sealSeconds } = await timed(seal);
  const { seconds: openSeconds } = await timed(open);
  for (const file of [sealed, opened, keyFile]) writeFileSync(file, '');
  return { name: 'age (file to file)', sizeBytes, sealSeconds, openSeconds };
}

export function ageKey(folder: string): { readonly keyFile: string; readonly recipient: string } {
  const keyFile = join(folder, 'age.key');
  execFileSync('age-keygen', ['-o', keyFile], { stdio: 'ignore' });
  return { keyFile, recipient: execFileSync('age-keygen', ['-y', keyFile]).toString().trim() };
}

export async function measureTypage(plaintext: Uint8Array): Promise<PeerResult> {
  const identity = await generateX25519Identity();
  const encrypter = new Encrypter();
  encrypter.addRecipient(await identityToRecipient(identity));
  const decrypter = new Decrypter();
  decrypter.addIdentity(identity);
  const sealed = await timed(() => encrypter.encrypt(plaintext));
  const opened = await timed(() => decrypter.decrypt(sealed.result));
  return {
    name: 'typage (memory)',
    sizeBytes: plaintext.length,
    sealSeconds: sealed.seconds,
    openSeconds: opened.seconds,
  };
}

/** Streams, because its buffer interface is far slower; committing suite without signature, its fastest. */
export function encryptionSdkStreams(frameLength: number): { encrypt(): Duplex; decrypt(): Duplex } {
  const { encryptStream, decryptStream } = buildClient(CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT);
  const keyring = new RawAesKeyringNode({
    keyName: 'bench',
    keyNamespace: 'bench',
    unencryptedMasterKey: new Uint8Array(randomBytes(32)),
    wrappingSuite: RawAesWrappingSuiteIdentifier.AES256_GCM_IV12_TAG16_NO_PADDING,
  });
  const suiteId = AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA512_COMMIT_KEY;
  return {
    encrypt: () => encryptStream(keyring, { suiteId, frameLength }),
    decrypt: () => decryptStream(keyring),
  };
}

export async function measureEncryptionSdk(plaintext: Uint8Array, frameBytes: number): Promise<PeerResult> {
  const sdk = encryptionSdkStreams(frameBytes);
  const ciphertext: Buffer[] = [];
  const sealed = await timed(() =>
    pipeline(
      Readable.from(pieces(plaintext, Math.min(frameBytes, 64 << 10))),
      sdk.encrypt(),
      sink((piece) => ciphertext.push(piece)),
    ),
  );
  let openedBytes = 0;
  const opened = await timed(() =>
    pipeline(
      Readable.from(ciphertext),
      sdk.decrypt(),
      sink((piece) => {
        openedBytes += piece.length;
      }),
    ),
  );
  if (openedBytes !== plaintext.length) throw new Error(`the SDK gave back ${openedBytes} bytes`);
  return {
    name: `AWS Encryption SDK (memory, ${frameBytes >> 10} KiB frames)`,
    sizeBytes: plaintext.length,
    sealSeconds: sealed.seconds,
    openSeconds: opened.seconds,
  };
}

function* pieces(bytes: Uint8Array, length: number): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

function sink(take: (piece: Buffer) => void): Writable {
  return new Writable({
    write(piece: Buffer, _encoding, done) {
      take(piece);
      done();
    },
  });
}
