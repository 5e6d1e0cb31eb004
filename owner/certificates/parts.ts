/** Parts of a certificate that Node's X509Certificate does not give. */
import type { X509Certificate } from 'node:crypto';
import { type Asn1, oidFromBytes, readDer, TAG } from '../../shared/asn1.ts';
import type { ID } from '../../shared/x509/write.ts';
import { CertificateError } from './errors.ts';

export interface CertificateParts {
  /** Encoded, as it stands. */
  readonly subject: Uint8Array;
  /** Whole Extension values by object identifier. */
  readonly extensions: ReadonlyMap<string, Asn1>;
}

/** RFC 5280 4.1, of version 3. Throws CERT_UNUSABLE. */
export function partsOf(certificate: X509Certificate): CertificateParts {
  try {
    const [tbs] = readDer(certificate.raw).children;
    const subject = tbs?.children[5];
    const extensions = tbs?.children.find(({ tagClass, tag }) => tagClass === 'context' && tag === 3);
    if (subject === undefined || extensions === undefined) throw new Error('no subject or no extensions');
    return {
      subject: subject.raw,
      extensions: new Map(
        (extensions.children[0]?.children ?? []).map((each) => {
          const [id] = each.children;
          return [oidFromBytes(id?.content ?? new Uint8Array(0)), each];
        }),
      ),
    };
  } catch (cause) {
    throw new CertificateError('CERT_UNUSABLE', 'Expected an X.509 certificate of version 3 in DER.', cause);
  }
}

/** What an extension holds; undefined if the certificate has none of this kind. Throws CodecError. */
export function extensionValue(
  { extensions }: CertificateParts,
  id: (typeof ID)[keyof typeof ID],
): Asn1 | undefined {
  const content = extensions.get(id)?.children.at(-1);
  return content?.tag === TAG.OCTET_STRING ? readDer(content.content) : undefined;
}
