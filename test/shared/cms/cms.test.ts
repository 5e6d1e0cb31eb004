import { constants, createPublicKey, generateKeyPairSync, type KeyObject, publicEncrypt } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { oidToBytes, readBer, TAG, writeDer } from '../../../shared/asn1.ts';
import { OID } from '../../../shared/cms/oids.ts';
import {
  CIPHERTEXT_FOR_RECIPIENT_MAX_BYTES,
  openEnvelopedData,
  parseEnvelopedData,
} from '../../../shared/cms/read.ts';
import { sealEnvelopedData } from '../../../shared/cms/write.ts';
import { codeOf } from '../../../shared/errors.ts';
import { BER_FORMS, type Editable, editable, inBer } from './ber-forms.ts';

function recipientOf(privateKey: KeyObject) {
  const spki = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
  return { privateKey, spki };
}

const recipient = recipientOf(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey);
const dataKey = Uint8Array.from({ length: 32 }, (_, i) => i + 1);

function refusal(bytes: Uint8Array, to = recipient): string | undefined {
  try {
    openEnvelopedData(bytes, to);
  } catch (error) {
    return codeOf(error) ?? String(error);
  }
  return undefined;
}

/** Reads a sealed message into a tree, lets `change` alter it, and writes it again with definite lengths. */
function rewritten(change: (tree: Editable) => void, sealed = sealEnvelopedData(dataKey, recipient.spki)) {
  const tree = editable(readBer(sealed));
  change(tree);
  return writeDer(tree);
}

function at(tree: Editable, ...path: number[]): Editable {
  return path.reduce((node, index) => node.children[index] as Editable, tree);
}

function flip(node: Editable, offset: number): void {
  const content = node.content as Uint8Array;
  content[offset] = (content[offset] as number) ^ 1;
}

const ENVELOPED = [1, 0];
const RECIPIENT = [...ENVELOPED, 1, 0];
const CONTENT = [...ENVELOPED, 2];

/** pSourceAlgorithm of RSAES-OAEP. */
function label(content: Uint8Array, kind: string = OID.P_SPECIFIED): Editable {
  const value = { tagClass: 'universal', tag: TAG.OCTET_STRING, content } as unknown as Editable;
  const algorithm: Editable = { tagClass: 'universal', tag: TAG.SEQUENCE, children: [oid(kind), value] };
  return { tagClass: 'context', tag: 2, children: [algorithm] };
}

function oid(dotted: string): Editable {
  return { tagClass: 'universal', tag: TAG.OID, content: oidToBytes(dotted) } as Editable;
}

describe('what was sealed opens again', () => {
  it.each(['constructed', 'primitive'] as const)('in the %s shape', (shape) => {
    const sealed = sealEnvelopedData(dataKey, recipient.spki, { shape });
    expect(openEnvelopedData(sealed, recipient)).toEqual(dataKey);
  });

  it('for every plaintext size around the AES block, and every piece size', () => {
    for (const size of [0, 1, 15, 16, 17, 31, 32, 33, 154, 2400]) {
      const plaintext = new Uint8Array(size).fill(size & 0xff);
      for (const pieceBytes of [7, 16, 17, 1000]) {
        const sealed = sealEnvelopedData(plaintext, recipient.spki, {
          pieceBytes: size > 400 ? 1000 : pieceBytes,
        });
        expect(openEnvelopedData(sealed, recipient)).toEqual(plaintext);
      }
    }
  });

  it('as a property of any bytes and any pieces', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 300 }),
        fc.integer({ min: 1, max: 400 }),
        (plaintext, pieceBytes) => {
          const sealed = sealEnvelopedData(plaintext, recipient.spki, { pieceBytes });
          expect(openEnvelopedData(sealed, recipient)).toEqual(plaintext);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('with RSA-3072 too', () => {
    const larger = recipientOf(generateKeyPairSync('rsa', { modulusLength: 3072 }).privateKey);
    expect(openEnvelopedData(sealEnvelopedData(dataKey, larger.spki), larger)).toEqual(dataKey);
  });

  it('in definite lengths, as long as the structure is the same', () => {
    expect(
      openEnvelopedData(
        rewritten(() => {}),
        recipient,
      ),
    ).toEqual(dataKey);
  });

  it('when the hash identifiers leave out their NULL', () => {
    const bytes = rewritten((tree) => {
      at(tree, ...RECIPIENT, 2, 1, 0, 0).children.pop();
      at(tree, ...RECIPIENT, 2, 1, 1, 0, 1).children.pop();
    });
    expect(openEnvelopedData(bytes, recipient)).toEqual(dataKey);
  });

  it('when the label of OAEP is written out as empty', () => {
    const bytes = rewritten((tree) => at(tree, ...RECIPIENT, 2, 1).children.push(label(new Uint8Array(0))));
    expect(openEnvelopedData(bytes, recipient)).toEqual(dataKey);
  });

  it.each(BER_FORMS)('in BER with %s', (_, form) => {
    const bytes = inBer(
      editable(readBer(sealEnvelopedData(dataKey, recipient.spki, { pieceBytes: 20 }))),
      form,
    );
    expect(openEnvelopedData(bytes, recipient)).toEqual(dataKey);
  });

  it('with empty pieces between the others', () => {
    const empty = {
      tagClass: 'universal',
      tag: TAG.OCTET_STRING,
      content: new Uint8Array(0),
    } as unknown as Editable;
    const bytes = rewritten(
      (tree) => {
        const pieces = at(tree, ...CONTENT, 2).children;
        at(tree, ...CONTENT, 2).children = [empty, ...pieces.flatMap((piece) => [piece, empty])];
      },
      sealEnvelopedData(dataKey, recipient.spki, { pieceBytes: 20 }),
    );
    expect(openEnvelopedData(bytes, recipient)).toEqual(dataKey);
  });

  it('into an ArrayBuffer of its own, so that wiping it wipes it', () => {
    const opened = openEnvelopedData(sealEnvelopedData(dataKey, recipient.spki), recipient);
    expect(opened.buffer.byteLength).toBe(opened.length);
    expect(opened.byteOffset).toBe(0);
  });
});

describe('the writer writes what KMS writes', () => {
  it('begins with the constant prefix of a 2048-bit answer and has its size', () => {
    const sealed = sealEnvelopedData(dataKey, recipient.spki);
    expect(Buffer.from(sealed.subarray(0, 33)).toString('hex')).toBe(
      '308006092a864886f70d010703a080308002010231 82016b30820167020102 8020'.replaceAll(' ', ''),
    );
    expect(sealed.length).toBe(493);
    expect(sealEnvelopedData(new Uint8Array(12), recipient.spki).length).toBe(461);
    expect(sealEnvelopedData(new Uint8Array(28), recipient.spki).length).toBe(477);
    expect(sealEnvelopedData(new Uint8Array(154), recipient.spki).length).toBe(606);
  });

  it('takes its content key and IV from the randomness it is given', () => {
    const randomBytes = (size: number) => new Uint8Array(size).fill(7);
    const a = parseEnvelopedData(sealEnvelopedData(dataKey, recipient.spki, { randomBytes }));
    const b = parseEnvelopedData(sealEnvelopedData(dataKey, recipient.spki, { randomBytes }));
    expect(a.ciphertext).toEqual(b.ciphertext);
    expect(a.iv).toEqual(new Uint8Array(16).fill(7));
    expect(a.encryptedKey).not.toEqual(b.encryptedKey);
  });

  it('refuses a key that is not RSA', () => {
    const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({
      format: 'der',
      type: 'spki',
    });
    expect(() => sealEnvelopedData(dataKey, ec)).toThrow('RSA');
  });
});

describe('refused, each for its own reason', () => {
  const version = (number: number): Partial<Editable> => ({ content: Uint8Array.of(number) });
  // biome-ignore format: one case a line
  const cases: [name: string, code: string, change: (tree: Editable) => void][] = [
    ['another message type', 'CMS_TYPE_REFUSED', (t) => Object.assign(at(t, 0), oid('1.2.840.113549.1.7.2'))],
    ['EnvelopedData version 0', 'CMS_VERSION_REFUSED', (t) => Object.assign(at(t, ...ENVELOPED, 0), version(0))],
    ['EnvelopedData version 3', 'CMS_VERSION_REFUSED', (t) => Object.assign(at(t, ...ENVELOPED, 0), version(3))],
    ['recipient version 0', 'CMS_VERSION_REFUSED', (t) => Object.assign(at(t, ...RECIPIENT, 0), version(0))],
    ['a version of two octets', 'CMS_VERSION_REFUSED', (t) => Object.assign(at(t, ...RECIPIENT, 0), { content: Uint8Array.of(2, 2) })],
    ['no recipient', 'CMS_RECIPIENT_REFUSED', (t) => at(t, ...ENVELOPED, 1).children.pop()],
    ['two recipients', 'CMS_RECIPIENT_REFUSED', (t) => at(t, ...ENVELOPED, 1).children.push(at(t, ...RECIPIENT))],
    ['recipient infos that are a SEQUENCE', 'CMS_MALFORMED', (t) => { at(t, ...ENVELOPED, 1).tag = TAG.SEQUENCE; }],
    ['a recipient id of 20 bytes', 'CMS_RECIPIENT_REFUSED', (t) => Object.assign(at(t, ...RECIPIENT, 1), { content: new Uint8Array(20) })],
    ['the id of another key', 'CMS_RECIPIENT_REFUSED', (t) => { flip(at(t, ...RECIPIENT, 1), 5); }],
    ['an issuer and serial number instead of an id', 'CMS_MALFORMED', (t) => { at(t, ...RECIPIENT).children[1] = { tagClass: 'universal', tag: TAG.SEQUENCE, children: [] }; }],
    ['RSAES-PKCS1-v1_5', 'CMS_KEY_ENCRYPTION_REFUSED', (t) => Object.assign(at(t, ...RECIPIENT, 2, 0), oid('1.2.840.113549.1.1.1'))],
    ['OAEP without parameters (SHA-1)', 'CMS_KEY_ENCRYPTION_REFUSED', (t) => at(t, ...RECIPIENT, 2).children.pop()],
    ['OAEP with empty parameters (SHA-1)', 'CMS_KEY_ENCRYPTION_REFUSED', (t) => { at(t, ...RECIPIENT, 2, 1).children = []; }],
    ['OAEP with the default hash (SHA-1)', 'CMS_KEY_ENCRYPTION_REFUSED', (t) => at(t, ...RECIPIENT, 2, 1).children.shift()],
    ['OAEP with the default mask (MGF1 with SHA-1)', 'CMS_KEY_ENCRYPTION_REFUSED', (t) => at(t, ...RECIPIENT, 2, 1).children.pop()],
    ['OAEP with explicit SHA-1', 'CMS_KEY_ENCRYPTION_REFUSED', (t) => Object.assign(at(t, ...RECIPIENT, 2, 1, 0, 0, 0), oid('1.3.14.3.2.26'))],
    ['OAEP with another mask', 'CMS_KEY_ENCRYPTION_REFUSED', (t) => Object.assign(at(t, ...RECIPIENT, 2, 1, 1, 0, 0), oid('1.2.840.113549.1.1.9'))],
    ['a mask with SHA-1', 'CMS_KEY_ENCRYPTION_REFUSED', (t) => Object.assign(at(t, ...RECIPIENT, 2, 1, 1, 0, 1, 0), oid('1.3.14.3.2.26'))],
    ['a mask without its hash', 'CMS_KEY_ENCRYPTION_REFUSED', (t) => at(t, ...RECIPIENT, 2, 1, 1, 0).children.pop()],
    ['hash and mask swapped', 'CMS_KEY_ENCRYPTION_REFUSED', (t) => at(t, ...RECIPIENT, 2, 1).children.reverse()],
    ['a hash with parameters', 'CMS_KEY_ENCRYPTION_REFUSED', (t) => Object.assign(at(t, ...RECIPIENT, 2, 1, 0, 0, 1), { tag: TAG.OCTET_STRING })],
    ['a NULL with content', 'CMS_KEY_ENCRYPTION_REFUSED', (t) => { at(t, ...RECIPIENT, 2, 1, 0, 0).children.push(at(t, ...RECIPIENT, 2, 1, 0, 0, 1)); }],
    ['an OAEP label that is not empty', 'CMS_KEY_ENCRYPTION_REFUSED', (t) => at(t, ...RECIPIENT, 2, 1).children.push(label(Uint8Array.of(1)))],
    ['an OAEP label of another kind', 'CMS_KEY_ENCRYPTION_REFUSED', (t) => at(t, ...RECIPIENT, 2, 1).children.push(label(new Uint8Array(0), OID.DATA))],
    ['two OAEP labels', 'CMS_KEY_ENCRYPTION_REFUSED', (t) => at(t, ...RECIPIENT, 2, 1).children.push(label(new Uint8Array(0)), label(new Uint8Array(0)))],
    ['a mask of another width', 'CMS_KEY_ENCRYPTION_REFUSED', (t) => Object.assign(at(t, ...RECIPIENT, 2, 1, 1, 0, 1, 0), oid('2.16.840.1.101.3.4.2.2'))],
    ['an IV of 8 bytes', 'CMS_CONTENT_ENCRYPTION_REFUSED', (t) => Object.assign(at(t, ...CONTENT, 1, 1), { content: new Uint8Array(8) })],
    ['an IV of 17 bytes', 'CMS_CONTENT_ENCRYPTION_REFUSED', (t) => Object.assign(at(t, ...CONTENT, 1, 1), { content: new Uint8Array(17) })],
    ['an IV inside a SEQUENCE', 'CMS_CONTENT_ENCRYPTION_REFUSED', (t) => { at(t, ...CONTENT, 1).children[1] = { tagClass: 'universal', tag: TAG.SEQUENCE, children: [] }; }],
    ['a further member of ContentInfo', 'CMS_MALFORMED', (t) => t.children.push(oid(OID.DATA))],
    ['a further member of the content info', 'CMS_MALFORMED', (t) => at(t, ...CONTENT).children.push(oid(OID.DATA))],
    ['two messages in one', 'CMS_MALFORMED', (t) => at(t, 1).children.push(at(t, ...ENVELOPED))],
    ['an empty OAEP label without kind', 'CMS_KEY_ENCRYPTION_REFUSED', (t) => at(t, ...RECIPIENT, 2, 1).children.push({ tagClass: 'context', tag: 2, children: [] })],
    ['an encrypted key shorter than the modulus', 'CMS_KEY_ENCRYPTION_REFUSED', (t) => Object.assign(at(t, ...RECIPIENT, 3), { content: at(t, ...RECIPIENT, 3).content?.subarray(1) })],
    ['an encrypted key with a zero in front', 'CMS_KEY_ENCRYPTION_REFUSED', (t) => Object.assign(at(t, ...RECIPIENT, 3), { content: Buffer.concat([Buffer.of(0), at(t, ...RECIPIENT, 3).content as Uint8Array]) })],
    ['a further member of the recipient', 'CMS_MALFORMED', (t) => at(t, ...RECIPIENT).children.push(oid(OID.DATA))],
    ['originator info', 'CMS_MALFORMED', (t) => at(t, ...ENVELOPED).children.splice(1, 0, { tagClass: 'context', tag: 0, children: [] })],
    ['unprotected attributes', 'CMS_MALFORMED', (t) => at(t, ...ENVELOPED).children.push({ tagClass: 'context', tag: 1, children: [] })],
    ['another inner type', 'CMS_TYPE_REFUSED', (t) => Object.assign(at(t, ...CONTENT, 0), oid('1.2.840.113549.1.7.2'))],
    ['AES-128-CBC', 'CMS_CONTENT_ENCRYPTION_REFUSED', (t) => Object.assign(at(t, ...CONTENT, 1, 0), oid('2.16.840.1.101.3.4.1.2'))],
    ['AES-256-GCM', 'CMS_CONTENT_ENCRYPTION_REFUSED', (t) => Object.assign(at(t, ...CONTENT, 1, 0), oid('2.16.840.1.101.3.4.1.46'))],
    ['no IV', 'CMS_CONTENT_ENCRYPTION_REFUSED', (t) => at(t, ...CONTENT, 1).children.pop()],
    ['an empty IV', 'CMS_CONTENT_ENCRYPTION_REFUSED', (t) => Object.assign(at(t, ...CONTENT, 1, 1), { content: new Uint8Array(0) })],
    ['an IV of 12 bytes', 'CMS_CONTENT_ENCRYPTION_REFUSED', (t) => Object.assign(at(t, ...CONTENT, 1, 1), { content: new Uint8Array(12) })],
    ['no content', 'CMS_MALFORMED', (t) => at(t, ...CONTENT).children.pop()],
    ['content under another tag', 'CMS_MALFORMED', (t) => { at(t, ...CONTENT, 2).tag = 1; }],
    ['an empty ciphertext', 'CMS_CONTENT_ENCRYPTION_REFUSED', (t) => { at(t, ...CONTENT, 2).children = []; }],
    ['half a block', 'CMS_CONTENT_ENCRYPTION_REFUSED', (t) => Object.assign(at(t, ...CONTENT, 2, 0), { content: new Uint8Array(24) })],
    ['a piece that is no OCTET STRING', 'CMS_MALFORMED', (t) => { at(t, ...CONTENT, 2, 0).tag = TAG.BIT_STRING; }],
  ];

  it.each(cases)('%s: %s', (_, code, change) => {
    expect(refusal(rewritten(change))).toBe(code);
  });

  it('a NULL that carries octets', () => {
    const bytes = rewritten((t) =>
      Object.assign(at(t, ...RECIPIENT, 2, 1, 0, 0, 1), { content: Uint8Array.of(0) }),
    );
    expect(['CMS_KEY_ENCRYPTION_REFUSED', 'CMS_MALFORMED']).toContain(refusal(bytes));
  });

  it('bytes after the message', () => {
    const sealed = sealEnvelopedData(dataKey, recipient.spki);
    for (const tail of [[0], [0, 0], [0x30, 0]]) {
      expect(refusal(Buffer.concat([sealed, Uint8Array.from(tail)]))).toBe('CMS_MALFORMED');
    }
  });

  it('a message cut anywhere', () => {
    const sealed = sealEnvelopedData(dataKey, recipient.spki);
    for (let length = 0; length < sealed.length; length++) {
      expect(refusal(sealed.subarray(0, length)), `${length} bytes`).toBe('CMS_MALFORMED');
    }
  });

  it('more than 6144 bytes, before anything is read', () => {
    expect(refusal(new Uint8Array(CIPHERTEXT_FOR_RECIPIENT_MAX_BYTES + 1))).toBe('CMS_TOO_LARGE');
    const largest = sealEnvelopedData(new Uint8Array(5600), recipient.spki, { pieceBytes: 6000 });
    expect(largest.length).toBeLessThanOrEqual(CIPHERTEXT_FOR_RECIPIENT_MAX_BYTES);
    expect(refusal(largest)).toBeUndefined();
  });

  it('three thousand nested values', () => {
    expect(refusal(Buffer.from('3080'.repeat(3000), 'hex'))).toBe('CMS_MALFORMED');
  });

  it('six hundred pieces', () => {
    const sealed = sealEnvelopedData(new Uint8Array(600), recipient.spki, { pieceBytes: 1 });
    expect(refusal(sealed)).toBe('CMS_MALFORMED');
  });
});

describe('a failure to decrypt says nothing of the step that failed', () => {
  const sealed = sealEnvelopedData(dataKey, recipient.spki);

  function failure(bytes: Uint8Array, to = recipient): unknown {
    try {
      openEnvelopedData(bytes, to);
    } catch (error) {
      return { ...(error as Error), message: (error as Error).message, cause: (error as Error).cause };
    }
    return 'opened';
  }

  it('wrong key, wrong content key length and wrong padding give equal errors', () => {
    const wrongKey = rewritten((t) => {
      flip(at(t, ...RECIPIENT, 3), 200);
    });
    const wrongPadding = rewritten((t) => {
      flip(at(t, ...CONTENT, 2, 0), 31);
    });
    const shortKey = sealWithContentKeyOf(16);
    const failures = [wrongKey, wrongPadding, shortKey].map((bytes) => failure(bytes));
    expect(failures[0]).toMatchObject({ code: 'CMS_DECRYPTION_FAILED', cause: undefined });
    expect(failures[1]).toEqual(failures[0]);
    expect(failures[2]).toEqual(failures[0]);
  });

  it('a key pair whose halves do not belong together', () => {
    const other = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    expect(refusal(sealed, { privateKey: other, spki: recipient.spki })).toBe('CMS_DECRYPTION_FAILED');
  });

  /** A message whose encrypted key is `sizeBytes` long, for the same ciphertext. */
  function sealWithContentKeyOf(sizeBytes: number): Uint8Array {
    const key = createPublicKey({ key: recipient.spki, format: 'der', type: 'spki' });
    const encryptedKey = publicEncrypt(
      { key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' },
      new Uint8Array(sizeBytes),
    );
    return rewritten((t) => Object.assign(at(t, ...RECIPIENT, 3), { content: encryptedKey }));
  }
});

describe('hostile bytes', () => {
  const sealed = sealEnvelopedData(dataKey, recipient.spki);

  it('any changed byte is refused with one of the codes, or opens to other bytes of the CBC (never a crash)', () => {
    fc.assert(
      fc.property(fc.nat(sealed.length - 1), fc.integer({ min: 1, max: 255 }), (offset, mask) => {
        const bytes = Uint8Array.from(sealed);
        bytes[offset] = (bytes[offset] as number) ^ mask;
        const code = refusal(bytes);
        // CBC is malleable: the IV and the ciphertext are the only places where a change can survive.
        if (code === undefined) expect(offset).toBeGreaterThan(400);
        else expect(code).toMatch(/^CMS_/);
      }),
      { numRuns: 300 },
    );
  });

  it('random bytes are refused with a CMS code', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
        expect(refusal(bytes)).toMatch(/^CMS_/);
      }),
      { numRuns: 200 },
    );
  });
});
