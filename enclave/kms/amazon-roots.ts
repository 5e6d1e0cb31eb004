import { readFileSync } from 'node:fs';

/**
 * The roots that TLS to AWS KMS may lead to: Amazon Root CA 1 to 4 and Starfield Services Root CA - G2, as
 * published by Amazon Trust Services. They travel in the measured image, so the host cannot add one. A test
 * compares their SHA-256 fingerprints with the published ones.
 */
export function amazonRoots(): readonly string[] {
  const pem = readFileSync(new URL('./amazon-roots.pem', import.meta.url), 'latin1');
  return pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
}
