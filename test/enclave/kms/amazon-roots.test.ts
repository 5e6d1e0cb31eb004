import { X509Certificate } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { amazonRoots } from '../../../enclave/kms/amazon-roots.ts';

/** Amazon Trust Services, https://www.amazontrust.com/repository/: SHA-256 of each root certificate in DER. */
const PUBLISHED: Readonly<Record<string, string>> = {
  'Amazon Root CA 1': '8ECDE6884F3D87B1125BA31AC3FCB13D7016DE7F57CC904FE1CB97C6AE98196E',
  'Amazon Root CA 2': '1BA5B2AA8C65401A82960118F80BEC4F62304D83CEC4713A19C39C011EA46DB4',
  'Amazon Root CA 3': '18CE6CFE7BF14E60B2E347B8DFE868CB31D02EBB3ADA271569F50343B46DB3A4',
  'Amazon Root CA 4': 'E35D28419ED02025CFA69038CD623962458DA5C695FBDEA3C22B0BFB25897092',
  'Starfield Services Root Certificate Authority - G2':
    '568D6905A2C88708A4B3025190EDCFEDB1974A606A13C6E5290FCB2AE63EDAB5',
};

describe('the roots that TLS to KMS may lead to', () => {
  const certificates = amazonRoots().map((pem) => new X509Certificate(pem));

  it('are exactly the five that Amazon Trust Services publishes', () => {
    const found = certificates.map(({ subject, fingerprint256 }) => [
      /^CN=(.+)$/m.exec(subject)?.[1],
      fingerprint256.replaceAll(':', ''),
    ]);
    expect(Object.fromEntries(found)).toEqual(PUBLISHED);
    expect(certificates).toHaveLength(5);
  });

  it('are certificate authorities that signed themselves', () => {
    for (const certificate of certificates) {
      expect(certificate.ca).toBe(true);
      expect(certificate.verify(certificate.publicKey)).toBe(true);
    }
  });
});
