/** How the image commands print a measured image, for people and as JSON. */
import type { MeasuredEif } from '../../review/image/eif/measure-eif.ts';
import { hex, shown } from './shown.ts';

/** Registers that depend on more than the image; undefined if not asked for. */
export interface Surroundings {
  readonly pcr3?: Uint8Array | undefined;
  readonly pcr4?: Uint8Array | undefined;
  readonly pcr16?: Uint8Array | undefined;
}

/** docs/image.md section 4 documents every member. */
export function imageAsJson(image: MeasuredEif, { pcr3, pcr4, pcr16 }: Surroundings = {}): object {
  const { header, measurements, signature } = image;
  const more = {
    ...(pcr3 === undefined ? {} : { PCR3: hex(pcr3) }),
    ...(pcr4 === undefined ? {} : { PCR4: hex(pcr4) }),
    ...(pcr16 === undefined ? {} : { PCR16: hex(pcr16) }),
  };
  return {
    Measurements: {
      HashAlgorithm: 'Sha384 { ... }',
      PCR0: hex(measurements.pcr0),
      PCR1: hex(measurements.pcr1),
      PCR2: hex(measurements.pcr2),
      ...(signature === undefined ? {} : { PCR8: hex(measurements.pcr8) }),
    },
    surroundings: more,
    image: {
      version: header.version,
      architecture: header.architecture,
      sizeBytes: header.sizeBytes,
      crc32: header.crc32.toString(16).padStart(8, '0'),
      sections: image.sections.map(({ kind, offset, sizeBytes }) => ({ kind, offset, sizeBytes })),
    },
    commandLine: image.commandLine,
    signature:
      signature === undefined
        ? null
        : {
            algorithm: signature.algorithm,
            subject: signature.certificate.subject,
            issuer: signature.certificate.issuer,
            notBefore: signature.certificate.notBefore.toISOString(),
            notAfter: signature.certificate.notAfter.toISOString(),
            dates: signature.dates,
            sha256: signature.certificate.sha256,
          },
    unmeasuredMetadata: image.unmeasuredMetadata ?? null,
  };
}

export function describeImage(image: MeasuredEif, { pcr3, pcr4, pcr16 }: Surroundings = {}): string {
  const { header, measurements, signature } = image;
  const lines: string[] = [];
  const register = (name: string, value: Uint8Array | undefined, covers: string) => {
    if (value !== undefined) lines.push(`${name.padEnd(6)}${hex(value)}`, `      ${covers}`);
  };
  register('PCR0', measurements.pcr0, 'the whole image: kernel, command line, every ramdisk');
  register('PCR1', measurements.pcr1, 'what boots: kernel, command line, first ramdisk');
  register('PCR2', measurements.pcr2, 'the application: every ramdisk but the first');
  register('PCR3', pcr3, 'the IAM role of the parent instance');
  register('PCR4', pcr4, 'the parent instance');
  if (signature === undefined) lines.push('PCR8  zero: the image is not signed');
  else register('PCR8', measurements.pcr8, 'the signing certificate, whatever image it signs');
  register('PCR16', pcr16, 'the deployment document, once the enclave has extended it');

  lines.push(
    '',
    `image         version ${header.version}, ${header.architecture}, ${header.sizeBytes} bytes, ${image.sections.length} sections`,
    `command line  ${shown(image.commandLine)}`,
  );
  if (signature !== undefined) {
    const { algorithm, certificate, dates } = signature;
    const days = `${certificate.notBefore.toISOString()} to ${certificate.notAfter.toISOString()}`;
    const verdict = { valid: 'valid now', expired: 'EXPIRED', 'not-yet-valid': 'NOT YET VALID' }[dates];
    lines.push(
      `signature     ${algorithm}, over this image`,
      `  subject     ${shown(certificate.subject)}`,
      `  issuer      ${shown(certificate.issuer)}`,
      `  dates       ${days}: ${verdict}`,
      `  SHA-256     ${certificate.sha256}`,
    );
  }
  lines.push('', 'Not measured, so anybody may have changed it:');
  if (image.unmeasuredMetadata === undefined) lines.push('  (no metadata)');
  else {
    const text = JSON.stringify(image.unmeasuredMetadata, undefined, 2);
    lines.push(...text.split('\n').map((line) => `  ${shown(line)}`));
  }
  return `${lines.join('\n')}\n`;
}
