/** What several operations read and answer alike. */
import { type Answer, aliasContext, type Call, findKey, type NamedKey } from '../call.ts';
import { namedInBlob } from '../ciphertext-blob.ts';
import { invalidCiphertext, KmsException, validation } from '../exception.ts';
import { type KeyMaterial, materialNamed } from '../keys.ts';

export const ALGORITHM = 'SYMMETRIC_DEFAULT';
export const CIPHERTEXT_MAX_BYTES = 6144;
/** KMS developer guide, "Quotas": all keys and values of an encryption context together. */
const CONTEXT_MAX_CHARACTERS = 8192;

/** Everything about the request was in order: DryRun answers with this error in place of the result. */
export function stopDryRun(): never {
  throw new KmsException(
    'DryRunOperationException',
    'The request would have succeeded, but the DryRun option is set.',
    { status: 412 },
  );
}

/** Grants work at once here, so a token has nothing to hasten; one that was never issued is still an error. */
export function requireKnownGrantTokens({ input, world }: Call): void {
  const tokens = input.strings('GrantTokens', { max: 10 }) ?? [];
  if (!tokens.every((token) => world.keys.grantTokenExists(token))) {
    throw new KmsException('InvalidGrantTokenException', 'The grant token is not valid.');
  }
}

/** The blob names its key and material; an identifier in the request may only confirm the key. */
export function keyOfBlob(
  call: Call,
  blob: Uint8Array,
  member: string,
): NamedKey & { readonly material: () => KeyMaterial } {
  const given = call.input.string(member, { max: 2048 });
  const { keyId, materialId } = namedInBlob(blob);
  const key = call.world.keys.ofBlob(keyId);
  if (key === undefined) throw invalidCiphertext('The ciphertext names a key that does not exist here.');
  if (given !== undefined && findKey(call, given, { aliases: true }) !== key) {
    throw new KmsException(
      'IncorrectKeyException',
      'The key ID in the request does not identify a CMK that can perform this operation.',
      { explanation: [`The ciphertext was made under ${key.arn}.`] },
    );
  }
  call.note.key = key;
  // Asked for only once the caller is allowed: until then nothing tells whether the ciphertext is any good.
  return { key, material: () => materialNamed(key, materialId), aliasContext: aliasContext(given) };
}

export function readContext({ input }: Call, member: string): ReadonlyMap<string, string> {
  const context = input.stringMap(member) ?? new Map<string, string>();
  if ([...context].flat().join('').length > CONTEXT_MAX_CHARACTERS) {
    throw validation(lowerFirst(member), `Member must have at most ${CONTEXT_MAX_CHARACTERS} characters`);
  }
  return context;
}

export function shownContext(
  member: string,
  context: ReadonlyMap<string, string>,
): Readonly<Record<string, object>> {
  return context.size === 0 ? {} : { [member]: Object.fromEntries(context) };
}

export function expectSymmetric({ input }: Call, member: string): void {
  const algorithm = input.oneOf(member, [ALGORITHM, 'RSAES_OAEP_SHA_1', 'RSAES_OAEP_SHA_256', 'SM2PKE']);
  if (algorithm !== undefined && algorithm !== ALGORITHM) {
    throw new KmsException(
      'InvalidKeyUsageException',
      `Algorithm ${algorithm} is incompatible with key spec SYMMETRIC_DEFAULT.`,
    );
  }
}

/** Reads `Limit` and `Marker`; gives the function that answers the page they ask for. */
export function pageOf({ input }: Call, limit: { readonly most: number; readonly usual: number }) {
  const size = input.integer('Limit', { min: 1, max: limit.most }) ?? limit.usual;
  const marker = input.string('Marker', { max: 1024 });
  return <T>(
    member: string,
    all: readonly T[],
    idOf: (item: T) => string,
    shown: (item: T) => Answer,
  ): Answer => {
    const markerOf = (item: T): string => Buffer.from(idOf(item), 'latin1').toString('base64url');
    const before = marker === undefined ? -1 : all.findIndex((item) => markerOf(item) === marker);
    if (marker !== undefined && before < 0) {
      throw new KmsException('InvalidMarkerException', 'The marker is not valid.');
    }
    const page = all.slice(before + 1, before + 1 + size);
    const last = page.at(-1);
    const truncated = before + 1 + size < all.length;
    return {
      [member]: page.map(shown),
      Truncated: truncated,
      ...(truncated && last !== undefined ? { NextMarker: markerOf(last) } : {}),
    };
  };
}

function lowerFirst(name: string): string {
  return `${name.charAt(0).toLowerCase()}${name.slice(1)}`;
}
