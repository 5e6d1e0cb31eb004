/** KnownRegisters as policies write them: `PCR0` and so on, 96 lower-case hex digits. */
import { createHash } from 'node:crypto';
import { asciiLower } from '../../shared/policy/glob.ts';

export const ATTESTATION_PREFIX = 'kms:recipientattestation:';
export const ZERO = '0'.repeat(96);

/** `pcr0` to `pcr31` of an enclave's document, by what an attacker can make them (docs/policy-review.md section 2). */
export const IMAGE_REGISTERS = ['pcr0', 'pcr1', 'pcr2'] as const;
export const HOST_REGISTERS = ['pcr3', 'pcr4'] as const;
export const SIGNER_REGISTER = 'pcr8';
/** Zero in every document. */
export const CONSTANT_REGISTERS = [5, 6, 7, 9, 10, 11, 12, 13, 14, 15].map((index) => `pcr${index}`);
/** Whatever the application extends: any image can extend the same. */
export const USER_REGISTERS = Array.from({ length: 16 }, (_, index) => `pcr${16 + index}`);
export const NITRO_TPM_REGISTERS = Array.from({ length: 24 }, (_, index) => `nitrotpmpcr${index}`);

/** By register name in lower case, without the prefix of condition keys. */
export type KnownRegisters = Readonly<Record<string, string>>;

/** `pcr0` of `kms:RecipientAttestation:PCR0` (`imagesha384` is PCR0); undefined for other condition keys. */
export function registerOfKey(key: string): string | undefined {
  const lower = asciiLower(key);
  if (!lower.startsWith(ATTESTATION_PREFIX)) return undefined;
  const name = lower.slice(ATTESTATION_PREFIX.length);
  return name === 'imagesha384' ? 'pcr0' : name;
}

export function isAttestationKey(key: string): boolean {
  return asciiLower(key).startsWith(ATTESTATION_PREFIX);
}

/** Whether a register can have this value: KMS supplies 96 digits in lower case. */
export function isDigest(value: string): boolean {
  return /^[0-9a-f]{96}$/.test(value);
}

/** A digest that stands for "some other image": none of those given, and matched by none of the patterns. */
export function freshDigest(label: string, taken: (value: string) => boolean): string {
  for (let attempt = 0; ; attempt += 1) {
    const value = createHash('sha384').update(`${label} ${attempt}`).digest('hex');
    // A pattern such as `*` takes every value; then any will do.
    if (attempt >= 256 || !taken(value)) return value;
  }
}

/** `PCR0` of `pcr0`, `ImageSha384` of nothing: for people. */
export function shownRegister(name: string): string {
  return asciiLower(name).startsWith('nitrotpm') ? `NitroTPMPCR${name.slice(11)}` : name.toUpperCase();
}
