/**
 * A private key as PKCS #8 in PEM, in a buffer of its own: Node takes TLS keys as PEM only, and its own PEM export
 * is a string, which could not be wiped.
 */
import type { KeyObject } from 'node:crypto';

const PEM_BEGIN = Buffer.from('-----BEGIN PRIVATE KEY-----\n', 'latin1');
const PEM_END = Buffer.from('\n-----END PRIVATE KEY-----\n', 'latin1');
const BASE64 = Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/', 'latin1');

/** The caller wipes it. */
export function privateKeyPem(privateKey: KeyObject): Uint8Array<ArrayBuffer> {
  const der = privateKey.export({ type: 'pkcs8', format: 'der' });
  try {
    const encodedBytes = Math.ceil(der.length / 3) * 4;
    const lineBreaks = Math.ceil(encodedBytes / 64) - 1;
    const pem = new Uint8Array(
      new ArrayBuffer(PEM_BEGIN.length + encodedBytes + lineBreaks + PEM_END.length),
    );
    pem.set(PEM_BEGIN);
    pem.set(PEM_END, pem.length - PEM_END.length);
    writeBase64Lines(der, pem.subarray(PEM_BEGIN.length, pem.length - PEM_END.length));
    return pem;
  } finally {
    der.fill(0);
  }
}

function writeBase64Lines(bytes: Uint8Array, target: Uint8Array): void {
  let at = 0;
  const put = (sextet: number | undefined): void => {
    if (at % 65 === 64) target[at++] = 0x0a;
    target[at++] = sextet === undefined ? 0x3d : (BASE64[sextet] as number);
  };
  for (let i = 0; i < bytes.length; i += 3) {
    const [a = 0, b, c] = bytes.subarray(i, i + 3);
    put(a >> 2);
    put(((a & 3) << 4) | ((b ?? 0) >> 4));
    put(b === undefined ? undefined : ((b & 15) << 2) | ((c ?? 0) >> 6));
    put(c === undefined ? undefined : c & 63);
  }
}
