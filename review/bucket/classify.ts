/** What an object in a bucket of sealed models is, by its name and its first bytes. */
import { MAGIC } from '../../shared/sealed-model/format.ts';
import type { ObjectSample } from './snapshot.ts';

export type ObjectKind =
  | { readonly kind: 'sealed'; readonly model: string; readonly part: string }
  /** ENCMODEL, ENVMODEL: encrypted as a whole, by an older tool. */
  | { readonly kind: 'legacy'; readonly format: string }
  /** An owner's own wrap of a data key, which never leaves the owner. */
  | { readonly kind: 'recovery' }
  | { readonly kind: 'unsealed'; readonly what: string }
  /** The first bytes could not be read. */
  | { readonly kind: 'unread'; readonly why: string };

const PART = /^(.*\.sealed)\/([^/]+)$/;
/** A head says how long its payload is (docs/sealed-model.md section 2.2). */
const PAYLOAD_LENGTH_AT = 32;
const JSON_PARTS = ['key.json', 'manifest.json'];
/** What the owner's tools may put beside them: an OpenSSF Model Signing bundle. */
const BUNDLE = /\.(?:sig|sigstore\.json|sigstore)$/;

/** Formats of plaintext weights and their beginnings. */
const PLAINTEXTS: readonly { readonly what: string; readonly is: (bytes: Uint8Array) => boolean }[] = [
  { what: 'GGUF weights', is: begins('GGUF') },
  { what: 'safetensors weights', is: (bytes) => bytes.length > 9 && bytes[7] === 0 && bytes[8] === 0x7b },
  { what: 'a ZIP archive, as PyTorch writes', is: begins('PK\x03\x04') },
  { what: 'HDF5 weights', is: begins('\x89HDF\r\n') },
  { what: 'a NumPy array', is: begins('\x93NUMPY') },
  {
    what: 'a Python pickle',
    is: (bytes) => bytes[0] === 0x80 && (bytes[1] ?? 0) >= 2 && (bytes[1] ?? 9) <= 5,
  },
  // ir_version, then producer_name or a neighbour of it (ONNX, onnx.proto ModelProto).
  {
    what: 'an ONNX model',
    is: (bytes) => bytes[0] === 0x08 && (bytes[1] ?? 99) < 32 && [0x12, 0x3a].includes(bytes[2] ?? 0),
  },
];

/** `heads` are the first bytes of each model's head, by the folder's name. */
export function classify(sample: ObjectSample, heads: ReadonlyMap<string, Uint8Array>): ObjectKind {
  const { key, sizeBytes, begin } = sample;
  if (key.endsWith('.recovery.json')) return { kind: 'recovery' };
  if (!begin.seen) return { kind: 'unread', why: begin.why };
  const bytes = begin.value;
  if (
    latin1(bytes).includes('"strongroom-recovery-v1"') ||
    latin1(bytes).startsWith('{"algorithm":"RSA-OAEP')
  ) {
    return { kind: 'recovery' };
  }
  const magic = latin1(bytes.subarray(0, 8));
  if (magic === 'ENCMODEL' || magic === 'ENVMODEL') return { kind: 'legacy', format: magic };
  const plaintext = PLAINTEXTS.find(({ is }) => is(bytes))?.what;
  const [, model, part] = PART.exec(key) ?? [];
  if (model === undefined || part === undefined) {
    return { kind: 'unsealed', what: plaintext ?? 'no part of a sealed model' };
  }
  const sealed: ObjectKind = { kind: 'sealed', model, part };
  const unsealed = (what: string): ObjectKind => ({ kind: 'unsealed', what });
  if (part === 'head') return isHead(bytes) ? sealed : unsealed('named head, without the magic of one');
  if (JSON_PARTS.includes(part)) return bytes[0] === 0x7b ? sealed : unsealed(`named ${part}, and no JSON`);
  if (part === 'payload') {
    const head = heads.get(model);
    if (head === undefined) return unsealed('named payload, without a head beside it');
    const expected = payloadLengthOf(head);
    if (expected !== sizeBytes)
      return unsealed(`a payload of ${sizeBytes} bytes, where the head says ${expected}`);
    return plaintext === undefined ? sealed : unsealed(`named payload, and begins as ${plaintext}`);
  }
  return BUNDLE.test(part) && bytes[0] === 0x7b
    ? sealed
    : unsealed(plaintext ?? `${part} is no part of a sealed model`);
}

/** The heads among the samples, by the name of their folder. */
export function headsOf(samples: readonly ObjectSample[]): Map<string, Uint8Array> {
  return new Map(
    samples.flatMap(({ key, begin }) => {
      const [, model, part] = PART.exec(key) ?? [];
      return model !== undefined && part === 'head' && begin.seen && isHead(begin.value)
        ? [[model, begin.value] as const]
        : [];
    }),
  );
}

function isHead(bytes: Uint8Array): boolean {
  return (
    bytes.length >= PAYLOAD_LENGTH_AT + 8 && Buffer.compare(bytes.subarray(0, MAGIC.length), MAGIC) === 0
  );
}

function payloadLengthOf(head: Uint8Array): number {
  return Number(Buffer.from(head).readBigUInt64BE(PAYLOAD_LENGTH_AT));
}

function begins(text: string): (bytes: Uint8Array) => boolean {
  return (bytes) => latin1(bytes.subarray(0, text.length)) === text;
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('latin1');
}
