import { Buffer } from 'node:buffer';
import type { KeyObject } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { TAG } from '../../../shared/asn1.ts';
import { awsNitroAnchor, simulationAnchor, TrustAnchor } from '../../../shared/attestation/anchors.ts';
import { CERTIFICATE_MAX_BYTES } from '../../../shared/attestation/limits.ts';
import { parseAttestationDocument } from '../../../shared/attestation/parse.ts';
import { VerifiedDocument, verifyAttestationDocument } from '../../../shared/attestation/verify.ts';
import type { CborValue } from '../../../shared/cbor.ts';
import {
  basicConstraints,
  buildDocument,
  type CertificateParts,
  type DocumentParts,
  ECDSA_SHA384,
  encodeIndefinite,
  extension,
  generalizedTime,
  keyPair,
  keyUsage,
  NOW,
  name,
  octets,
  oid,
  sequence,
  universal,
  utcTime,
} from './build.ts';
import { codeFor } from './code.ts';

const verify = (change?: (parts: DocumentParts) => void, at = NOW) => {
  const { bytes, anchor } = buildDocument(change);
  return verifyAttestationDocument(parseAttestationDocument(bytes), { anchors: [anchor], at });
};
const verifyCode = (change: (parts: DocumentParts) => void, at = NOW) => codeFor(() => verify(change, at));

type Level = 'root' | 'region' | 'zone' | 'instance' | 'leaf';
const LEVELS: readonly Level[] = ['root', 'region', 'zone', 'instance', 'leaf'];
/** Changes one certificate before it is signed. */
const certificate = (level: Level, change: (parts: CertificateParts) => void) => (parts: DocumentParts) =>
  change(parts.chain[LEVELS.indexOf(level)] as CertificateParts);
const withExtensions = (level: Level, ...extensions: ReturnType<typeof extension>[]) =>
  certificate(level, (parts) => {
    parts.extensions = extensions;
  });
const seconds = (ms: number) => new Date(NOW.getTime() + ms);
const HOUR_MS = 3_600_000;

describe('a genuine document', () => {
  it('is verified, and says who is trusted and until when', () => {
    const verified = verify();
    expect(verified.trust).toBe('simulation');
    expect(verified.fields.moduleId).toMatch(/-enc/);
    expect(verified.notAfter.toISOString()).toBe('2026-03-04T08:05:07.000Z');
  });

  it('may be an indefinite map', () => {
    expect(
      verifyCode((parts) => {
        parts.encodePayload = encodeIndefinite;
      }),
    ).toBeUndefined();
  });

  it('may be signed with a high or a low s', () => {
    const order = BigInt(
      '0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973',
    );
    const negated = (signature: Uint8Array) => {
      const s = order - BigInt(`0x${Buffer.from(signature.subarray(48)).toString('hex')}`);
      return Uint8Array.of(
        ...signature.subarray(0, 48),
        ...Buffer.from(s.toString(16).padStart(96, '0'), 'hex'),
      );
    };
    expect(
      verifyCode((parts) => {
        parts.signature = negated;
      }),
    ).toBeUndefined();
  });

  it('may have a root with a path length that is long enough', () => {
    expect(verifyCode(withExtensions('root', basicConstraints(true, 3), keyUsage(0x86)))).toBeUndefined();
  });

  it('may have extensions that are not critical and not known', () => {
    const unknown = extension('1.2.3.4', false, octets(new Uint8Array(3)));
    expect(
      verifyCode(certificate('instance', (parts) => void parts.extensions.push(unknown))),
    ).toBeUndefined();
  });

  it('may have a certificate that lives beyond 2049', () => {
    expect(
      verifyCode(
        certificate('root', (parts) => {
          parts.notAfter = generalizedTime('20560101000000Z');
        }),
      ),
    ).toBeUndefined();
  });

  it('is verified again at every call: nothing is remembered', () => {
    const { bytes, anchor } = buildDocument();
    const document = parseAttestationDocument(bytes);
    expect(
      codeFor(() => verifyAttestationDocument(document, { anchors: [anchor], at: NOW })),
    ).toBeUndefined();
    const late = { anchors: [anchor], at: seconds(4 * HOUR_MS) };
    expect(codeFor(() => verifyAttestationDocument(document, late))).toBe('ATTESTATION_EXPIRED');
    expect(codeFor(() => verifyAttestationDocument(document, { anchors: [awsNitroAnchor()], at: NOW }))).toBe(
      'ATTESTATION_UNTRUSTED_ROOT',
    );
  });
});

describe('3.1 the root', () => {
  it('of a simulator is refused by the anchor of production', () => {
    const { bytes } = buildDocument();
    const document = parseAttestationDocument(bytes);
    expect(codeFor(() => verifyAttestationDocument(document, { anchors: [awsNitroAnchor()], at: NOW }))).toBe(
      'ATTESTATION_UNTRUSTED_ROOT',
    );
  });

  it('of one simulator is refused where another is trusted', () => {
    const { bytes } = buildDocument();
    const other = buildDocument(
      certificate('root', (parts) => {
        parts.serial = universal(TAG.INTEGER, Uint8Array.of(99));
      }),
    );
    const document = parseAttestationDocument(bytes);
    expect(codeFor(() => verifyAttestationDocument(document, { anchors: [other.anchor], at: NOW }))).toBe(
      'ATTESTATION_UNTRUSTED_ROOT',
    );
    const both = { anchors: [other.anchor, awsNitroAnchor(), buildDocument().anchor], at: NOW };
    expect(codeFor(() => verifyAttestationDocument(document, both))).toBe('ATTESTATION_UNTRUSTED_ROOT');
  });

  it('is looked for at the beginning of the bundle, not at its end', () => {
    expect(
      verifyCode((parts) => {
        parts.encodePayload = (payload) => {
          payload.set('cabundle', [...(payload.get('cabundle') as CborValue[])].reverse());
          return encodeIndefinite(payload);
        };
      }),
    ).toBe('ATTESTATION_UNTRUSTED_ROOT');
  });

  it('missing from the bundle is not added', () => {
    expect(
      verifyCode((parts) => {
        parts.encodePayload = (payload) => {
          payload.set('cabundle', (payload.get('cabundle') as CborValue[]).slice(1));
          return encodeIndefinite(payload);
        };
      }),
    ).toBe('ATTESTATION_UNTRUSTED_ROOT');
  });

  it('that nobody gave is refused', () => {
    const document = parseAttestationDocument(buildDocument().bytes);
    expect(codeFor(() => verifyAttestationDocument(document, { anchors: [], at: NOW }))).toBe(
      'ATTESTATION_NO_ANCHOR',
    );
  });

  it('with a word of trust that was made up is refused', () => {
    const { bytes, anchor } = buildDocument();
    const document = parseAttestationDocument(bytes);
    const forged = { ...anchor, trust: 'aws-nitro' } as unknown as TrustAnchor;
    expect(codeFor(() => verifyAttestationDocument(document, { anchors: [forged], at: NOW }))).toBe(
      'ATTESTATION_NO_ANCHOR',
    );
    expect(() => Object.assign(anchor, { trust: 'aws-nitro' })).toThrow(TypeError);
    const Forged = TrustAnchor as unknown as new (...args: unknown[]) => TrustAnchor;
    expect(() => new Forged(Symbol('made in this module'), 'aws-nitro')).toThrow(TypeError);
  });
});

describe('3.2 every certificate is read strictly', () => {
  const rsaLike = sequence(
    sequence(oid('1.2.840.113549.1.1.1'), universal(TAG.NULL, new Uint8Array(0))),
    universal(TAG.BIT_STRING, new Uint8Array(257)),
  );
  const spkiOf = (curve: string) => ({
    der: new Uint8Array(keyPair(curve).publicKey.export({ type: 'spki', format: 'der' })),
  });
  const integer = (...content: number[]) => universal(TAG.INTEGER, Uint8Array.from(content));

  it.each<[string, (parts: CertificateParts) => void, string]>([
    [
      'version 1',
      (parts) => {
        parts.version = [integer(0)];
      },
      'MALFORMED',
    ],
    [
      'version 4',
      (parts) => {
        parts.version = [integer(3)];
      },
      'MALFORMED',
    ],
    [
      'a negative serial number',
      (parts) => {
        parts.serial = integer(0x80);
      },
      'MALFORMED',
    ],
    [
      'a serial number of 22 bytes',
      (parts) => {
        parts.serial = integer(...new Array(22).fill(1));
      },
      'MALFORMED',
    ],
    [
      'SHA-256 in the signed part',
      (parts) => {
        parts.tbsAlgorithm = sequence(oid('1.2.840.10045.4.3.2'));
      },
      'ALGORITHM',
    ],
    [
      'SHA-256 outside the signed part',
      (parts) => {
        parts.algorithm = sequence(oid('1.2.840.10045.4.3.2'));
      },
      'ALGORITHM',
    ],
    [
      'parameters after the algorithm',
      (parts) => {
        parts.algorithm = sequence(oid('1.2.840.10045.4.3.3'), universal(TAG.NULL, new Uint8Array(0)));
      },
      'ALGORITHM',
    ],
    [
      'an RSA key',
      (parts) => {
        parts.spki = rsaLike;
      },
      'ALGORITHM',
    ],
    [
      'a P-256 key',
      (parts) => {
        parts.spki = spkiOf('P-256');
      },
      'ALGORITHM',
    ],
    [
      'a P-521 key',
      (parts) => {
        parts.spki = spkiOf('P-521');
      },
      'ALGORITHM',
    ],
    [
      'a unique identifier',
      (parts) => {
        parts.afterKey = [{ tagClass: 'context', tag: 2, content: Uint8Array.of(0) }];
      },
      'MALFORMED',
    ],
    [
      'a time without seconds',
      (parts) => {
        parts.notBefore = utcTime('2603040506Z');
      },
      'MALFORMED',
    ],
    [
      'a time of another zone',
      (parts) => {
        parts.notBefore = utcTime('260304050607+0100');
      },
      'MALFORMED',
    ],
    [
      'a time with a fraction',
      (parts) => {
        parts.notAfter = generalizedTime('20560101000000.5Z');
      },
      'MALFORMED',
    ],
    [
      'a day that does not exist',
      (parts) => {
        parts.notBefore = utcTime('260230050607Z');
      },
      'MALFORMED',
    ],
    [
      'an hour that does not exist',
      (parts) => {
        parts.notBefore = utcTime('260228240000Z');
      },
      'MALFORMED',
    ],
    [
      'GeneralizedTime before 2050',
      (parts) => {
        parts.notAfter = generalizedTime('20490101000000Z');
      },
      'MALFORMED',
    ],
    [
      'time as text',
      (parts) => {
        parts.notAfter = universal(TAG.UTF8_STRING, new TextEncoder().encode('270304050607Z'));
      },
      'MALFORMED',
    ],
    [
      'an empty subject',
      (parts) => {
        parts.subject = sequence();
      },
      'MALFORMED',
    ],
    [
      'a critical extension that is not known',
      (parts) => void parts.extensions.push(extension('1.2.3.4', true, octets(new Uint8Array(1)))),
      'EXTENSION',
    ],
    [
      'a critical CRL distribution point',
      (parts) => void parts.extensions.push(extension('2.5.29.31', true, sequence())),
      'EXTENSION',
    ],
    [
      'critical name constraints',
      (parts) => void parts.extensions.push(extension('2.5.29.30', true, sequence())),
      'EXTENSION',
    ],
    ['basicConstraints twice', (parts) => void parts.extensions.push(basicConstraints(true, 0)), 'EXTENSION'],
    [
      'an unknown extension twice',
      (parts) =>
        void parts.extensions.push(
          extension('1.2.3.4', false, octets(new Uint8Array(1))),
          extension('1.2.3.4', false, octets(new Uint8Array(1))),
        ),
      'EXTENSION',
    ],
    [
      'an extension that spells out its default',
      (parts) =>
        void parts.extensions.push(
          sequence(oid('1.2.3.4'), universal(TAG.BOOLEAN, Uint8Array.of(0)), octets(new Uint8Array(0))),
        ),
      'MALFORMED',
    ],
    [
      'an extension without content',
      (parts) => void parts.extensions.push(sequence(oid('1.2.3.4'))),
      'MALFORMED',
    ],
    [
      'a signature with unused bits',
      (parts) => {
        parts.signature = (content) => Uint8Array.of(1, ...content.subarray(1, -1), 0);
      },
      'MALFORMED',
    ],
    [
      'a trailing byte',
      (parts) => {
        parts.finished = (der) => Uint8Array.of(...der, 0);
      },
      'MALFORMED',
    ],
    [
      'an indefinite length',
      (parts) => {
        parts.finished = (der) => Uint8Array.of(0x30, 0x80, ...der.subarray(4), 0, 0);
      },
      'MALFORMED',
    ],
    [
      'a missing byte',
      (parts) => {
        parts.finished = (der) => der.subarray(0, -1);
      },
      'MALFORMED',
    ],
    [
      'no ASN.1 at all',
      (parts) => {
        parts.finished = () => new Uint8Array(CERTIFICATE_MAX_BYTES).fill(0x61);
      },
      'MALFORMED',
    ],
  ])('%s', (_what, change, code) => {
    expect(verifyCode(certificate('instance', change))).toBe(`ATTESTATION_CERTIFICATE_${code}`);
  });

  it('a key that is no point of the curve', () => {
    expect(
      verifyCode(
        certificate('leaf', (parts) => {
          const good = 'der' in parts.spki ? parts.spki.der : new Uint8Array(0);
          const bad = good.slice();
          bad[119] = (bad[119] as number) ^ 1;
          parts.spki = { der: bad };
        }),
      ),
    ).toBe('ATTESTATION_CERTIFICATE_ALGORITHM');
  });

  it.each([
    ['path length of two bytes', universal(TAG.INTEGER, Uint8Array.of(1, 0))],
    ['a negative path length', universal(TAG.INTEGER, Uint8Array.of(0xff))],
    ['a path length in bytes', octets(Uint8Array.of(1))],
  ])('basicConstraints with %s', (_what, pathLength) => {
    const constraints = extension(
      '2.5.29.19',
      true,
      sequence(universal(TAG.BOOLEAN, Uint8Array.of(0xff)), pathLength),
    );
    expect(verifyCode(withExtensions('instance', constraints, keyUsage(0x04)))).toBe(
      'ATTESTATION_CERTIFICATE_MALFORMED',
    );
  });

  it('basicConstraints that say FALSE where DER says nothing', () => {
    const spelled = extension('2.5.29.19', true, sequence(universal(TAG.BOOLEAN, Uint8Array.of(0))));
    expect(verifyCode(withExtensions('leaf', spelled, keyUsage(0x80)))).toBe(
      'ATTESTATION_CERTIFICATE_MALFORMED',
    );
  });

  it('names in messages hold nothing that a terminal would obey', () => {
    const evil = certificate('leaf', (parts) => {
      parts.subject = name('\u001b[2Jevil\n');
      parts.notBefore = utcTime('270101000000Z');
    });
    expect(() => verify(evil)).toThrowError(/^\?\[?.2Jevil\?? is valid from|^\?.2Jevil. is valid from/);
  });
});

describe('3.3 issuers', () => {
  it.each(LEVELS.slice(1))('a %s that names another issuer is refused', (level) => {
    expect(
      verifyCode(
        certificate(level, (parts) => {
          parts.issuer = name('somebody else');
        }),
      ),
    ).toBe('ATTESTATION_ISSUER');
  });

  it('the same text in another string type is another name', () => {
    expect(
      verifyCode((parts) => {
        const [root, region] = parts.chain;
        region.issuer = JSON.parse(JSON.stringify(root.subject)) as typeof region.issuer;
        const printable = (node: typeof region.issuer): typeof region.issuer =>
          'children' in node
            ? { ...node, children: node.children.map(printable) }
            : 'content' in node
              ? {
                  ...node,
                  tag: node.tag === TAG.UTF8_STRING ? TAG.PRINTABLE_STRING : node.tag,
                  content: Uint8Array.from(Object.values(node.content)),
                }
              : node;
        region.issuer = printable(region.issuer);
      }),
    ).toBe('ATTESTATION_ISSUER');
  });

  it('intermediates in another order are refused', () => {
    expect(
      verifyCode((parts) => {
        parts.encodePayload = (payload) => {
          const [root, region, zone, instance] = payload.get('cabundle') as CborValue[];
          payload.set('cabundle', [root, zone, region, instance] as CborValue[]);
          return encodeIndefinite(payload);
        };
      }),
    ).toBe('ATTESTATION_ISSUER');
  });

  it('a missing intermediate is refused', () => {
    expect(
      verifyCode((parts) => {
        parts.encodePayload = (payload) => {
          const [root, region, , instance] = payload.get('cabundle') as CborValue[];
          payload.set('cabundle', [root, region, instance] as CborValue[]);
          return encodeIndefinite(payload);
        };
      }),
    ).toBe('ATTESTATION_ISSUER');
  });
});

describe('3.4 validity', () => {
  it.each(LEVELS)('a %s that is not valid yet is refused', (level) => {
    const change = certificate(level, (parts) => {
      parts.notBefore = utcTime(seconds(2000));
    });
    expect(verifyCode(change)).toBe('ATTESTATION_NOT_YET_VALID');
  });

  it.each(LEVELS)('a %s that is no longer valid is refused', (level) => {
    const change = certificate(level, (parts) => {
      parts.notAfter = utcTime(seconds(-2000));
    });
    expect(verifyCode(change)).toBe('ATTESTATION_EXPIRED');
  });

  it('both ends are included, to the millisecond', () => {
    const from = new Date('2026-03-04T05:05:07.000Z');
    const to = new Date('2026-03-04T08:05:07.000Z');
    const dated = (at: Date) => (parts: DocumentParts) => void parts.payload.set('timestamp', at.getTime());
    expect(verifyCode(dated(from), from)).toBeUndefined();
    expect(verifyCode(dated(to), to)).toBeUndefined();
    expect(verifyCode(dated(from), new Date(from.getTime() - 1))).toBe('ATTESTATION_NOT_YET_VALID');
    expect(verifyCode(dated(to), new Date(to.getTime() + 1))).toBe('ATTESTATION_EXPIRED');
  });

  it('a time that is no time is an error, not a pass', () => {
    expect(verifyCode(() => {}, new Date(Number.NaN))).toBe('ATTESTATION_TIME_UNUSABLE');
  });
});

describe('3.5 authorities', () => {
  it.each<[string, Level, ReturnType<typeof extension>[]]>([
    ['an intermediate that is no authority', 'zone', [basicConstraints(false), keyUsage(0x86)]],
    ['an intermediate without basicConstraints', 'zone', [keyUsage(0x86)]],
    [
      'an intermediate whose basicConstraints are not critical',
      'zone',
      [basicConstraints(true, 1, false), keyUsage(0x86)],
    ],
    ['a leaf that is an authority', 'leaf', [basicConstraints(true), keyUsage(0x80, false)]],
    ['a leaf without basicConstraints', 'leaf', [keyUsage(0x80, false)]],
    [
      'a leaf whose basicConstraints are not critical',
      'leaf',
      [basicConstraints(false, undefined, false), keyUsage(0x80, false)],
    ],
  ])('%s is refused', (_what, level, extensions) => {
    expect(verifyCode(withExtensions(level, ...extensions))).toBe('ATTESTATION_CERTIFICATE_AUTHORITY');
  });

  it('a leaf with a path length is refused', () => {
    const odd = extension('2.5.29.19', true, sequence(universal(TAG.INTEGER, Uint8Array.of(0))));
    expect(verifyCode(withExtensions('leaf', odd, keyUsage(0x80, false)))).toBe(
      'ATTESTATION_CERTIFICATE_MALFORMED',
    );
  });

  it.each<[Level, number]>([
    ['root', 2],
    ['region', 1],
    ['zone', 0],
  ])('a %s with path length %i is too far from the document', (level, pathLength) => {
    expect(verifyCode(withExtensions(level, basicConstraints(true, pathLength), keyUsage(0x86)))).toBe(
      'ATTESTATION_PATH_LENGTH',
    );
  });

  it('an enclave cannot issue a certificate for another', () => {
    expect(
      verifyCode((parts) => {
        const [, , , instance, leaf] = parts.chain;
        for (const authority of parts.chain.slice(1, 4)) {
          authority.extensions = [basicConstraints(true), keyUsage(0x86)];
        }
        const keys = keyPair();
        // The leaf of one enclave, used as if it were an authority for a leaf of the attacker's.
        const forged: CertificateParts = {
          ...leaf,
          subject: name('forged'),
          issuer: leaf.subject,
          signedBy: parts.signedBy,
          spki: { der: new Uint8Array(keys.publicKey.export({ type: 'spki', format: 'der' })) },
        };
        parts.chain = [
          ...parts.chain.slice(0, 3),
          instance,
          leaf,
          forged,
        ] as unknown as DocumentParts['chain'];
        parts.signedBy = keys.privateKey as KeyObject;
      }),
    ).toBe('ATTESTATION_CERTIFICATE_AUTHORITY');
  });
});

describe('3.6 key usage', () => {
  it.each<[string, Level, ReturnType<typeof extension>[]]>([
    ['an intermediate that may not sign certificates', 'region', [basicConstraints(true, 2), keyUsage(0x82)]],
    ['an intermediate without keyUsage', 'region', [basicConstraints(true, 2)]],
    [
      'an intermediate whose keyUsage is not critical',
      'region',
      [basicConstraints(true, 2), keyUsage(0x86, false)],
    ],
    ['a leaf that may not sign', 'leaf', [basicConstraints(false), keyUsage(0x40, false)]],
    ['a leaf without keyUsage', 'leaf', [basicConstraints(false)]],
    ['a leaf that may sign certificates', 'leaf', [basicConstraints(false), keyUsage(0x84, false)]],
  ])('%s is refused', (_what, level, extensions) => {
    expect(verifyCode(withExtensions(level, ...extensions))).toBe('ATTESTATION_KEY_USAGE');
  });

  it('of a leaf may be critical or not', () => {
    expect(verifyCode(withExtensions('leaf', basicConstraints(false), keyUsage(0x80, true)))).toBeUndefined();
  });
});

describe('3.7 the timestamp', () => {
  it('before the leaf was issued is refused', () => {
    expect(verifyCode((parts) => void parts.payload.set('timestamp', NOW.getTime() - 61_000))).toBe(
      'ATTESTATION_TIMESTAMP_OUTSIDE',
    );
  });

  it('after the leaf expires is refused', () => {
    expect(verifyCode((parts) => void parts.payload.set('timestamp', NOW.getTime() + 3 * HOUR_MS))).toBe(
      'ATTESTATION_TIMESTAMP_OUTSIDE',
    );
  });

  it('in seconds is refused', () => {
    expect(verifyCode((parts) => void parts.payload.set('timestamp', Math.floor(NOW.getTime() / 1000)))).toBe(
      'ATTESTATION_TIMESTAMP_OUTSIDE',
    );
  });
});

describe('3.8 signatures of certificates', () => {
  it.each(LEVELS.slice(1))('a %s that its issuer did not sign is refused', (level) => {
    expect(
      verifyCode(
        certificate(level, (parts) => {
          parts.signedBy = keyPair().privateKey;
        }),
      ),
    ).toBe('ATTESTATION_CERTIFICATE_SIGNATURE');
  });

  it.each(LEVELS.slice(1))('a %s that was changed after it was signed is refused', (level) => {
    expect(
      verifyCode(
        certificate(level, (parts) => {
          // The serial number, which nothing else looks at.
          parts.finished = (der) =>
            der.with(
              der.findIndex(
                (_, i) => der[i] === 2 && der[i + 1] === 1 && der[i + 2] === 0x40 + LEVELS.indexOf(level),
              ) + 2,
              0x55,
            );
        }),
      ),
    ).toBe('ATTESTATION_CERTIFICATE_SIGNATURE');
  });

  it('a signature whose DER is not DER is refused', () => {
    expect(
      verifyCode(
        certificate('leaf', (parts) => {
          parts.signature = (content) => Uint8Array.of(...content, 0);
        }),
      ),
    ).toBe('ATTESTATION_CERTIFICATE_SIGNATURE');
  });
});

describe('3.9 the signature of the document', () => {
  const order = Buffer.from(
    'ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973',
    'hex',
  );
  const halves = (r: Uint8Array | undefined, s: Uint8Array | undefined) => (parts: DocumentParts) => {
    parts.signature = (signature) =>
      Uint8Array.of(...(r ?? signature.subarray(0, 48)), ...(s ?? signature.subarray(48)));
  };
  const zero = new Uint8Array(48);
  const ones = new Uint8Array(48).fill(0xff);

  it.each<[string, (parts: DocumentParts) => void]>([
    ['r = 0', halves(zero, undefined)],
    ['s = 0', halves(undefined, zero)],
    ['r = s = 0', halves(zero, zero)],
    ['r = n', halves(order, undefined)],
    ['s = n', halves(undefined, order)],
    ['r above n', halves(ones, undefined)],
    ['s above n', halves(undefined, ones)],
  ])('with %s is refused', (_what, change) => {
    expect(verifyCode(change)).toBe('ATTESTATION_SIGNATURE_RANGE');
  });

  it('by another key is refused', () => {
    expect(
      verifyCode((parts) => {
        parts.signedBy = keyPair().privateKey;
      }),
    ).toBe('ATTESTATION_SIGNATURE');
  });

  it('by the key of the instance instead of the leaf is refused', () => {
    expect(
      verifyCode((parts) => {
        parts.signedBy = parts.chain[4].signedBy;
      }),
    ).toBe('ATTESTATION_SIGNATURE');
  });

  it('over anything but the payload as received is refused', () => {
    expect(
      verifyCode((parts) => {
        // One digit of the module id: same length, other enclave.
        parts.finished = (bytes) => {
          const at = Buffer.from(bytes).indexOf('-enc') + 4;
          return bytes.with(at, 0x66);
        };
      }),
    ).toBe('ATTESTATION_SIGNATURE');
  });

  it('over a map that was decoded and encoded again is refused', () => {
    const { bytes, anchor } = buildDocument((parts) => {
      parts.encodePayload = encodeIndefinite;
    });
    const hex = Buffer.from(bytes).toString('hex');
    const length = Number.parseInt(hex.slice(16, 20), 16);
    const definite = `a9${hex.slice(22, 20 + length * 2 - 2)}`;
    const again =
      hex.slice(0, 16) + (length - 1).toString(16).padStart(4, '0') + definite + hex.slice(20 + length * 2);
    const document = parseAttestationDocument(new Uint8Array(Buffer.from(again, 'hex')));
    expect(codeFor(() => verifyAttestationDocument(document, { anchors: [anchor], at: NOW }))).toBe(
      'ATTESTATION_SIGNATURE',
    );
  });

  it('any changed byte of a document is refused', () => {
    const { bytes, anchor } = buildDocument();
    for (let at = 0; at < bytes.length; at += 23) {
      const damaged = bytes.with(at, (bytes[at] as number) ^ 0x10);
      const code = codeFor(() =>
        verifyAttestationDocument(parseAttestationDocument(damaged), { anchors: [anchor], at: NOW }),
      );
      expect(code, `offset ${at}`).toMatch(/^(ATTESTATION|CBOR)_/);
    }
  });
});

describe('anchors', () => {
  const pem = (der: Uint8Array) =>
    `-----BEGIN CERTIFICATE-----\n${Buffer.from(der).toString('base64').replaceAll(/.{64}/g, '$&\n')}\n-----END CERTIFICATE-----\n`;
  const anchorCode = (change: (parts: CertificateParts) => void) =>
    codeFor(() => buildDocument(certificate('root', change)));

  it('a simulation root is read from DER and from PEM', () => {
    const { anchor } = buildDocument();
    expect(simulationAnchor(pem(anchor.certificate)).certificate).toEqual(anchor.certificate);
    expect(simulationAnchor(anchor.certificate).trust).toBe('simulation');
  });

  it('the AWS root has the fingerprint that AWS publishes, and cannot pass for a simulation', () => {
    expect(awsNitroAnchor().trust).toBe('aws-nitro');
    expect(awsNitroAnchor().certificate).toHaveLength(533);
    expect(codeFor(() => simulationAnchor(awsNitroAnchor().certificate))).toBe('ATTESTATION_ANCHOR_UNUSABLE');
  });

  it.each<[string, (parts: CertificateParts) => void]>([
    [
      'is no authority',
      (parts) => {
        parts.extensions = [basicConstraints(false), keyUsage(0x86)];
      },
    ],
    [
      'may not sign certificates',
      (parts) => {
        parts.extensions = [basicConstraints(true), keyUsage(0x80)];
      },
    ],
    [
      'was issued by another',
      (parts) => {
        parts.issuer = name('another');
      },
    ],
    [
      'was signed by another',
      (parts) => {
        parts.signedBy = keyPair().privateKey;
      },
    ],
    [
      'has a P-256 key',
      (parts) => {
        parts.spki = {
          der: new Uint8Array(keyPair('P-256').publicKey.export({ type: 'spki', format: 'der' })),
        };
      },
    ],
    [
      'names another algorithm',
      (parts) => {
        parts.algorithm = sequence(oid('1.2.840.10045.4.3.4'));
        parts.tbsAlgorithm = ECDSA_SHA384;
      },
    ],
  ])('a root that %s is no anchor', (_what, change) => {
    expect(anchorCode(change)).toBe('ATTESTATION_ANCHOR_UNUSABLE');
  });

  it.each([
    '',
    'certificate',
    '-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----',
    '-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----',
  ])('text that is no certificate is no anchor: %j', (text) => {
    expect(codeFor(() => simulationAnchor(text))).toBe('ATTESTATION_ANCHOR_UNUSABLE');
  });

  it('two certificates in one PEM are no anchor', () => {
    const one = pem(buildDocument().anchor.certificate);
    expect(codeFor(() => simulationAnchor(one + one))).toBe('ATTESTATION_ANCHOR_UNUSABLE');
  });
});

describe('a VerifiedDocument comes from the verifier only', () => {
  it('also at run time', () => {
    const Forged = VerifiedDocument as unknown as new (...args: unknown[]) => VerifiedDocument;
    const verified = verify();
    expect(() => new Forged(Symbol('verified in this module'), verified.fields, 'aws-nitro', NOW)).toThrow(
      TypeError,
    );
    expect(VerifiedDocument.isGenuine(verified)).toBe(true);
    expect(VerifiedDocument.isGenuine({ ...verified })).toBe(false);
    expect(VerifiedDocument.isGenuine(Object.create(VerifiedDocument.prototype))).toBe(false);
    expect(() => Object.assign(verified, { trust: 'aws-nitro' })).toThrow(TypeError);
  });

  it('and only from documents that were parsed', () => {
    const { bytes, anchor } = buildDocument();
    const parsed = parseAttestationDocument(bytes);
    const forged = { ...parsed } as unknown as typeof parsed;
    expect(codeFor(() => verifyAttestationDocument(forged, { anchors: [anchor], at: NOW }))).toBe(
      'ATTESTATION_NOT_VERIFIED',
    );
  });
});
