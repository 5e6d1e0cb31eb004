import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { preAuthenticationEncoding } from '../../../shared/dsse.ts';
import { encryptionContextOf } from '../../../shared/sealed-model/head.ts';
import {
  expectHeadOf,
  type ManifestFields,
  VerifiedManifest,
  verifyManifest,
} from '../../../shared/sealed-model/manifest.ts';
import { encodeUnsignedManifest, signManifest } from '../../../shared/sealed-model/manifest-sign.ts';
import { bytesOf, sealFiles } from './seals.ts';

const FIELDS: ManifestFields = {
  name: 'iris',
  version: 3,
  format: 'onnx',
  contentId: 'ab'.repeat(32),
  files: [{ path: 'model.onnx', sizeBytes: 5, sha256: 'cd'.repeat(32) }],
};
const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const ed25519 = generateKeyPairSync('ed25519');

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();
const code = (expected: string) => expect.objectContaining({ code: expected });

/** A signed envelope around any statement: what a hostile or careless signer could write. */
function signed(statement: string, privateKey: KeyObject = p256.privateKey, type?: string): Uint8Array {
  const payload = Buffer.from(statement);
  const payloadType = type ?? 'application/vnd.in-toto+json';
  const sig = sign('sha256', preAuthenticationEncoding(payloadType, payload), privateKey).toString('base64');
  return Buffer.from(
    JSON.stringify({ payload: payload.toString('base64'), payloadType, signatures: [{ sig }] }),
  );
}
const statementOf = (manifest: Uint8Array): string =>
  Buffer.from(JSON.parse(text(manifest)).payload, 'base64').toString();
const statement = statementOf(encodeUnsignedManifest(FIELDS));

describe('a manifest', () => {
  for (const [name, { publicKey, privateKey }] of Object.entries({ p256, ed25519 })) {
    it(`signed with ${name} verifies and says what was signed`, () => {
      const manifest = verifyManifest(signManifest(FIELDS, privateKey), publicKey);
      expect({ ...manifest, sha256: undefined }).toEqual({ ...FIELDS, sha256: undefined });
      expect(manifest.sha256).toMatch(/^[0-9a-f]{64}$/);
    });
  }

  it('keeps its version label', () => {
    const labelled = { ...FIELDS, versionLabel: 'after review' };
    expect(verifyManifest(signManifest(labelled, p256.privateKey), p256.publicKey).versionLabel).toBe(
      'after review',
    );
  });

  it('is refused when unsigned, signed by another key, or under another key id', () => {
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    for (const bytes of [encodeUnsignedManifest(FIELDS), signManifest(FIELDS, other.privateKey)]) {
      expect(() => verifyManifest(bytes, p256.publicKey)).toThrow(code('SEALED_MANIFEST_UNSIGNED'));
    }
    const envelope = JSON.parse(text(signManifest(FIELDS, other.privateKey)));
    envelope.signatures[0].keyid = JSON.parse(
      text(signManifest(FIELDS, p256.privateKey)),
    ).signatures[0].keyid;
    expect(() => verifyManifest(Buffer.from(JSON.stringify(envelope)), p256.publicKey)).toThrow(
      code('SEALED_MANIFEST_UNSIGNED'),
    );
  });

  it('is refused when any byte of the statement was changed', () => {
    const bytes = Buffer.from(signManifest(FIELDS, p256.privateKey));
    const envelope = JSON.parse(text(bytes));
    const payload = Buffer.from(envelope.payload, 'base64');
    for (let at = 0; at < payload.length; at += 7) {
      const changed = Buffer.from(payload);
      changed[at] = (changed[at] as number) ^ 1;
      const forged = JSON.stringify({ ...envelope, payload: changed.toString('base64') });
      expect(() => verifyManifest(Buffer.from(forged), p256.publicKey)).toThrow(
        code('SEALED_MANIFEST_UNSIGNED'),
      );
    }
  });

  it('is accepted with one good signature among others', () => {
    const envelope = JSON.parse(text(signManifest(FIELDS, p256.privateKey)));
    envelope.signatures.unshift({ sig: Buffer.alloc(64).toString('base64'), keyid: 'other' });
    expect(verifyManifest(Buffer.from(JSON.stringify(envelope)), p256.publicKey).name).toBe('iris');
  });

  it('is refused when the signer signed something else than a statement about one head', () => {
    const edits: Record<string, (from: string) => string> = {
      'another predicate': (from) => from.replace('urn:strongroom:sealed-model:v1', 'urn:other'),
      'another statement type': (from) => from.replace('Statement/v1', 'Statement/v0.1'),
      'another subject': (from) => from.replace('"name":"head"', '"name":"payload"'),
      'two subjects': (from) => from.replace(/"subject":\[(.*)\]/, '"subject":[$1,$1]'),
      'no digest': (from) => from.replace(/"sha256":"(ab)+"/, ''),
      'an upper-case digest': (from) => from.replace(/"(ab)+"/, (found) => found.toUpperCase()),
      'an unknown member': (from) => from.replace('"format"', '"extra":1,"format"'),
      'a member twice': (from) => from.replace('"version":3', '"version":3,"version":4'),
      'version 0': (from) => from.replace('"version":3', '"version":0'),
      'a version as text': (from) => from.replace('"version":3', '"version":"3"'),
      'a climbing path': (from) => from.replace('model.onnx', '../model.onnx'),
      'no files': (from) => from.replace(/"files":\[[^\]]*\]/, '"files":[]'),
      'a negative size': (from) => from.replace('"sizeBytes":5', '"sizeBytes":-5'),
      'something after its end': (from) => `${from}{}`,
    };
    expect(verifyManifest(signed(statement), p256.publicKey).name).toBe('iris');
    for (const [what, edit] of Object.entries(edits)) {
      const edited = edit(statement);
      expect(edited, what).not.toBe(statement);
      expect(() => verifyManifest(signed(edited), p256.publicKey), what).toThrow(
        code('SEALED_MANIFEST_MALFORMED'),
      );
    }
  });

  it('is refused when the envelope is of another type or shape', () => {
    const envelope = JSON.parse(text(signManifest(FIELDS, p256.privateKey)));
    const shapes: unknown[] = [
      { ...envelope, payloadType: 'application/json' },
      { ...envelope, payload: `${envelope.payload} ` },
      { ...envelope, signatures: {} },
      { ...envelope, signatures: Array(9).fill(envelope.signatures[0]) },
      { ...envelope, signatures: [{ ...envelope.signatures[0], cert: 'x' }] },
      { ...envelope, extra: 1 },
      [],
      null,
    ];
    for (const shape of shapes) {
      expect(() => verifyManifest(Buffer.from(JSON.stringify(shape)), p256.publicKey)).toThrow(
        code('SEALED_MANIFEST_MALFORMED'),
      );
    }
    expect(() => verifyManifest(new Uint8Array((4 << 20) + 1), p256.publicKey)).toThrow(
      code('SEALED_MANIFEST_MALFORMED'),
    );
  });

  it('is never checked with a key of another kind', () => {
    const bytes = signManifest(FIELDS, p256.privateKey);
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' });
    for (const { publicKey } of [rsa, p384]) {
      expect(() => verifyManifest(bytes, publicKey)).toThrow(code('SEALED_SIGNER_UNSUPPORTED'));
    }
  });

  it('is made by nobody but the verifier', () => {
    expect(() => new VerifiedManifest(Symbol('forged'), FIELDS, '')).toThrow(TypeError);
  });
});

describe('the head that a manifest names', () => {
  it('is accepted alone, and another identity, content id or list of files is refused', async () => {
    const seal = await sealFiles({ 'model.onnx': bytesOf(5) });
    const fields = { ...FIELDS, contentId: seal.sealed.contentId, files: seal.sealed.files };
    const verified = (changed: ManifestFields): VerifiedManifest =>
      verifyManifest(signManifest(changed, p256.privateKey), p256.publicKey);
    expect(() => expectHeadOf(verified(fields), seal.head)).not.toThrow();
    const wrong: ManifestFields[] = [
      { ...fields, contentId: 'ab'.repeat(32) },
      { ...fields, name: 'rose' },
      { ...fields, version: 4 },
      { ...fields, versionLabel: 'x' },
      { ...fields, format: 'gguf' },
      { ...fields, files: [{ path: 'model.onnx', sizeBytes: 6, sha256: 'cd'.repeat(32) }] },
      { ...fields, files: [{ path: 'other.onnx', sizeBytes: 5, sha256: 'cd'.repeat(32) }] },
    ];
    for (const changed of wrong) {
      expect(() => expectHeadOf(verified(changed), seal.head)).toThrow(code('SEALED_IDENTITY_MISMATCH'));
    }
    expect(() => expectHeadOf(fields as VerifiedManifest, seal.head)).toThrow(TypeError);
  });

  it('gives the encryption context: name, version, ctx and purpose', async () => {
    const { head } = await sealFiles({ 'model.onnx': bytesOf(5) });
    expect(encryptionContextOf(head)).toEqual({
      'strongroom-model': 'iris',
      'strongroom-version': '3',
      'strongroom-context': Buffer.from(head.context).toString('base64'),
      'strongroom-purpose': 'model-data-key',
    });
  });
});
