/**
 * ENCMODEL (docs/legacy.md section 3): the key comes from outside, and so does the associated data, if there is any.
 * Nothing authenticates the JSON unless its writer made it the associated data: it is a claim, checked against the
 * message and never believed.
 *
 *   "ENCMODEL" | length 4 | JSON | nonce 12 | ciphertext | tag 16
 */
import type { FileHandle } from 'node:fs/promises';
import {
  digestMember,
  encodePreamble,
  expectVersionOne,
  expectWithinCipher,
  type LegacyMessage,
  malformed,
  memberOf,
  NONCE_BYTES,
  otherMembers,
  PLAINTEXT_MAX_BYTES,
  type Preamble,
  readAt,
  readMessage,
  stringMember,
  TAG_BYTES,
} from './layout.ts';
import { pythonDumps } from './python-dumps.ts';
import type { PythonDict, PythonValue } from './python-loads.ts';

const MEMBERS = ['version', 'algorithm', 'plaintext_size', 'plaintext_hash', 'has_aad'] as const;
const ALGORITHM = 'AES-256-GCM';

export interface Encmodel {
  readonly format: 'encmodel';
  readonly message: LegacyMessage;
  readonly hasAssociatedData: boolean;
  /** Names of members that the layout does not have. */
  readonly otherMembers: readonly string[];
}

export async function readEncmodel(
  file: FileHandle,
  fileBytes: number,
  preamble: Preamble,
): Promise<Encmodel> {
  expectVersionOne(preamble);
  const algorithm = stringMember(preamble, 'algorithm');
  if (!/^aes-?256-?gcm$/i.test(algorithm)) {
    throw malformed(`its algorithm must be ${ALGORITHM}, not ${JSON.stringify(algorithm.slice(0, 40))}`);
  }
  const claimedBytes = sizeMember(memberOf(preamble, 'plaintext_size'));
  const plaintextSha256 = digestMember(preamble, 'plaintext_hash');
  const hasAssociatedData = memberOf(preamble, 'has_aad');
  if (typeof hasAssociatedData !== 'boolean') throw malformed('"has_aad" must be true or false');
  const offsetBytes = preamble.endBytes + NONCE_BYTES;
  if (offsetBytes + claimedBytes + TAG_BYTES !== fileBytes) {
    throw malformed(
      `its plaintext_size is ${claimedBytes}, its ciphertext has ${fileBytes - TAG_BYTES - offsetBytes} bytes`,
    );
  }
  const nonce = await readAt(file, preamble.endBytes, NONCE_BYTES);
  return {
    format: 'encmodel',
    message: await readMessage(file, fileBytes, { nonce, offsetBytes, plaintextSha256 }),
    hasAssociatedData,
    otherMembers: otherMembers(preamble, MEMBERS),
  };
}

/**
 * All that stands before the ciphertext. Size and digest may be unknown while a pipe is being read: then this is
 * as long as the final one, which takes its place.
 */
export function encodeEncmodel(
  nonce: Uint8Array,
  hasAssociatedData: boolean,
  plaintext: { readonly sizeBytes: number; readonly sha256: string } | 'unknown',
): Uint8Array {
  const preamble = (sizeBytes: number, sha256: string, paddedBytes: number): Uint8Array => {
    const members: PythonDict = new Map<string, PythonValue>([
      ['version', 1n],
      ['algorithm', ALGORITHM],
      ['plaintext_size', BigInt(sizeBytes)],
      ['plaintext_hash', sha256],
      ['has_aad', hasAssociatedData],
    ]);
    return encodePreamble('encmodel', pythonDumps(members), paddedBytes);
  };
  const longest = preamble(PLAINTEXT_MAX_BYTES, '0'.repeat(64), 0);
  const final =
    plaintext === 'unknown' ? longest : preamble(plaintext.sizeBytes, plaintext.sha256, longest.length);
  return Buffer.concat([final, nonce]);
}

function sizeMember(value: PythonValue): number {
  if (typeof value !== 'bigint' || value < 0n) throw malformed('"plaintext_size" must be a whole number');
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) expectWithinCipher(Number.POSITIVE_INFINITY);
  expectWithinCipher(Number(value));
  return Number(value);
}
