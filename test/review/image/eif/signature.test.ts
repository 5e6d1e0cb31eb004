import { createHash, createPrivateKey, sign, X509Certificate } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { measureEif } from '../../../../review/image/eif/measure-eif.ts';
import { signatureSection } from '../../../../review/image/eif/signature-write.ts';
import {
  cborArray,
  cborBytes,
  cborHead,
  cborIntegers,
  cborText,
  eifFile,
  GOOD,
  part,
  type TestSigner,
  testSigner,
} from './eif-file.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
/** The certificates are made after this line is read: a moment at which they are sure to have begun. */
const now = new Date(Date.now() + 3_600_000);
const measure = (section: Uint8Array, at = now, sections = GOOD) =>
  measureEif([eifFile({ sections: [...sections, part('signature', section)] })], { at });

const PCR0 = createHash('sha384')
  .update(new Uint8Array(48))
  .update(createHash('sha384').update('a kernelconsole=ttyS0bootstrapapplication').digest())
  .digest();

interface Forgery {
  readonly pcr0?: Uint8Array;
  readonly registerIndex?: number;
  readonly protectedHeader?: string;
  readonly unprotected?: Uint8Array;
  readonly certificate?: string | Uint8Array;
  readonly hash?: string;
  readonly signature?: (genuine: Buffer) => Buffer;
  readonly key?: string;
  readonly entries?: number;
  readonly more?: readonly Uint8Array[];
  readonly asStrings?: boolean;
}

/** A signature section by hand. */
function section(signer: TestSigner, forgery: Forgery = {}): Buffer {
  const header = Buffer.from(forgery.protectedHeader ?? 'a1013822', 'hex');
  const payload = Buffer.concat([
    cborHead(5, 2),
    cborText('register_index'),
    cborHead(0, forgery.registerIndex ?? 0),
    cborText('register_value'),
    cborIntegers(forgery.pcr0 ?? PCR0),
  ]);
  const signed = cborArray([
    cborText('Signature1'),
    cborBytes(header),
    cborBytes(new Uint8Array()),
    cborBytes(payload),
  ]);
  const genuine = sign(forgery.hash ?? 'sha384', signed, {
    key: forgery.key ?? signer.keyPem,
    dsaEncoding: 'ieee-p1363',
  });
  const cose = cborArray([
    cborBytes(header),
    forgery.unprotected ?? cborHead(5, 0),
    cborBytes(payload),
    cborBytes(forgery.signature?.(genuine) ?? genuine),
  ]);
  const bytes = forgery.asStrings === true ? cborBytes : cborIntegers;
  const entry = Buffer.concat([
    cborHead(5, 2 + (forgery.more?.length ?? 0) / 2),
    cborText('signing_certificate'),
    bytes(Buffer.from(forgery.certificate ?? signer.certificatePem)),
    cborText('signature'),
    bytes(cose),
    ...(forgery.more ?? []),
  ]);
  return cborArray(Array(forgery.entries ?? 1).fill(entry));
}

let signer: TestSigner;
let stranger: TestSigner;
beforeAll(() => {
  signer = testSigner('secp384r1');
  stranger = testSigner('secp384r1');
});

describe('the signature of an image', () => {
  it('that is over this image gives PCR8, the measurement of the certificate alone', async () => {
    const { measurements, signature } = await measure(section(signer));
    const der = new X509Certificate(signer.certificatePem).raw;
    const inner = createHash('sha384').update(der).digest();
    expect(hex(measurements.pcr8)).toBe(
      createHash('sha384').update(new Uint8Array(48)).update(inner).digest('hex'),
    );
    expect(hex(measurements.pcr0)).toBe(PCR0.toString('hex'));
    expect(signature).toMatchObject({
      algorithm: 'ES384',
      dates: 'valid',
      certificate: { subject: 'CN=test' },
    });
  });

  it.each([
    ['ES256', 'prime256v1', 'sha256', 'a10126'],
    ['ES512', 'secp521r1', 'sha512', 'a1013823'],
  ] as const)('can be of %s', async (name, curve, hash, protectedHeader) => {
    const { signature } = await measure(section(testSigner(curve), { hash, protectedHeader }));
    expect(signature?.algorithm).toBe(name);
  });

  it('says whether its certificate is valid at the time that is asked about', async () => {
    const dates = async (at: string) => (await measure(section(signer), new Date(at))).signature?.dates;
    expect(await dates('2001-01-01')).toBe('not-yet-valid');
    expect(await dates('2101-01-01')).toBe('expired');
  });

  it('as written here is, byte for byte but for ECDSA itself, as signing tools write it', async () => {
    const written = signatureSection(
      { privateKey: createPrivateKey(signer.keyPem), certificatePem: Buffer.from(signer.certificatePem) },
      PCR0,
    );
    expect((await measure(written)).signature?.algorithm).toBe('ES384');
    const certificateEnd = 300;
    expect(hex(written.subarray(0, certificateEnd))).toBe(hex(section(signer).subarray(0, certificateEnd)));
  });

  it('finds a text before the certificate harmless', async () => {
    const { signature } = await measure(
      section(signer, { certificate: `subject=test\n${signer.certificatePem}` }),
    );
    expect(signature?.dates).toBe('valid');
  });
});

describe('a signed image is refused', () => {
  const der = (pem: string) => new X509Certificate(pem).raw;
  const pem = (bytes: Uint8Array) =>
    `-----BEGIN CERTIFICATE-----\n${Buffer.from(bytes).toString('base64')}\n-----END CERTIFICATE-----\n`;
  const cases: readonly (readonly [string, () => Forgery, string])[] = [
    ['over another image, whatever it says', () => ({ pcr0: new Uint8Array(48) }), 'EIF_SIGNATURE_WRONG'],
    ['over another register', () => ({ registerIndex: 1 }), 'EIF_SIGNATURE_WRONG'],
    ['signed by another key', () => ({ key: stranger.keyPem }), 'EIF_SIGNATURE_WRONG'],
    [
      'with the certificate of another',
      () => ({ certificate: stranger.certificatePem }),
      'EIF_SIGNATURE_WRONG',
    ],
    [
      'with a signature of zeros',
      () => ({ signature: (s) => Buffer.alloc(s.length) }),
      'EIF_SIGNATURE_WRONG',
    ],
    ['with a shortened signature', () => ({ signature: (s) => s.subarray(1) }), 'EIF_SIGNATURE_FORM'],
    [
      'with a hash that its curve does not go with',
      () => ({ protectedHeader: 'a10126' }),
      'EIF_SIGNATURE_FORM',
    ],
    ['of an unknown algorithm', () => ({ protectedHeader: 'a10127' }), 'EIF_SIGNATURE_FORM'],
    [
      'with a second, unsigned header',
      () => ({ unprotected: Buffer.from('a10126', 'hex') }),
      'EIF_SIGNATURE_FORM',
    ],
    ['with two signatures', () => ({ entries: 2 }), 'EIF_SIGNATURE_FORM'],
    ['with a member more', () => ({ more: [cborText('x'), cborHead(0, 0)] }), 'EIF_SIGNATURE_FORM'],
    ['with byte strings where integers are written', () => ({ asStrings: true }), 'EIF_SIGNATURE_FORM'],
    [
      'with two certificates',
      () => ({ certificate: signer.certificatePem + stranger.certificatePem }),
      'EIF_SIGNATURE_FORM',
    ],
    [
      'with a certificate that goes on',
      () => ({ certificate: pem(Buffer.concat([der(signer.certificatePem), Buffer.of(0)])) }),
      'EIF_SIGNATURE_FORM',
    ],
    [
      'with base64 that readers end at different places',
      () => ({ certificate: signer.certificatePem.replace(/\n-----END/, '\n=AAA\n-----END') }),
      'EIF_SIGNATURE_FORM',
    ],
    [
      'with a certificate that is none',
      () => ({ certificate: pem(Buffer.from('certificate')) }),
      'EIF_SIGNATURE_FORM',
    ],
    ['with a private key as its certificate', () => ({ certificate: signer.keyPem }), 'EIF_SIGNATURE_FORM'],
    [
      'with DER where PEM is written',
      () => ({ certificate: der(signer.certificatePem) }),
      'EIF_SIGNATURE_FORM',
    ],
  ];
  it.each(cases)('%s', async (_, forgery, code) => {
    await expect(measure(section(signer, forgery()))).rejects.toMatchObject({ code, exitCode: 2 });
  });

  it('with anything after the list', async () => {
    const longer = Buffer.concat([section(signer), Buffer.of(0)]);
    await expect(measure(longer)).rejects.toMatchObject({ code: 'EIF_SIGNATURE_FORM' });
  });

  it('with a signature of more than 32768 bytes', async () => {
    await expect(measure(Buffer.alloc(32769))).rejects.toMatchObject({ code: 'EIF_LIMIT' });
  });

  it('with a section after the signature', async () => {
    const sections = [...GOOD, part('signature', section(signer)), part('ramdisk', 'unseen')];
    await expect(measureEif([eifFile({ sections })], { at: now })).rejects.toMatchObject({
      code: 'EIF_SECTIONS',
    });
  });

  it('in version 2, which has no signatures', async () => {
    const sections = [...GOOD.filter(({ kind }) => kind !== 5), part('signature', section(signer))];
    await expect(measureEif([eifFile({ version: 2, sections })], { at: now })).rejects.toMatchObject({
      code: 'EIF_SECTIONS',
    });
  });
});
