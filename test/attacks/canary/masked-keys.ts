/**
 * How the spying image hands keys to the test: each as the hexadecimal PKCS #8 of a line, XORed with a constant,
 * so that the handing over is not itself what the search finds.
 */
export const MASKED_KEYS_FILE = 'masked-keys';

const MASK = 0xa5;

export function mask(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const masked = new Uint8Array(new ArrayBuffer(bytes.length));
  for (const [index, byte] of bytes.entries()) masked[index] = byte ^ MASK;
  return masked;
}
