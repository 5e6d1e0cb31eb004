/** Image files made by hand, so that a test can make any mistake in them. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';

export const KIND = { kernel: 1, cmdline: 2, ramdisk: 3, signature: 4, metadata: 5 } as const;

export interface HandMadeSection {
  readonly kind: number;
  readonly data: Uint8Array;
  readonly flags?: number;
  /** What the section's own header says, if not the truth. */
  readonly saysBytes?: bigint;
}

export interface HandMadeEif {
  readonly version?: number;
  readonly flags?: number;
  readonly sections: readonly HandMadeSection[];
  /** Changes the finished header before the checksum is made. */
  readonly header?: (header: Buffer) => void;
  readonly trailing?: Uint8Array;
  readonly crc?: number;
}

export const part = (kind: keyof typeof KIND, content: string | Uint8Array): HandMadeSection => ({
  kind: KIND[kind],
  data: typeof content === 'string' ? Buffer.from(content) : content,
});

/** A good image of version 4; each test spoils one thing of it. */
export const GOOD: readonly HandMadeSection[] = [
  part('kernel', 'a kernel'),
  part('cmdline', 'console=ttyS0'),
  part('metadata', '{"ImageName":"test"}'),
  part('ramdisk', 'bootstrap'),
  part('ramdisk', 'application'),
];

export function eifFile(options: HandMadeEif): Buffer {
  const { sections } = options;
  const header = Buffer.alloc(548);
  header.write('.eif', 0, 'latin1');
  header.writeUInt16BE(options.version ?? 4, 4);
  header.writeUInt16BE(options.flags ?? 0, 6);
  header.writeUInt16BE(sections.length, 0x1a);
  const body: Buffer[] = [];
  let offset = 548;
  for (const [index, { kind, data, flags, saysBytes }] of sections.entries()) {
    if (index < 32) {
      header.writeBigUInt64BE(BigInt(offset), 0x1c + 8 * index);
      header.writeBigUInt64BE(BigInt(data.length), 0x11c + 8 * index);
    }
    const head = Buffer.alloc(12);
    head.writeUInt16BE(kind, 0);
    head.writeUInt16BE(flags ?? 0, 2);
    head.writeBigUInt64BE(saysBytes ?? BigInt(data.length), 4);
    body.push(head, Buffer.from(data));
    offset += 12 + data.length;
  }
  options.header?.(header);
  const rest = Buffer.concat(body);
  header.writeUInt32BE(options.crc ?? crc32(rest, crc32(header.subarray(0, 544))), 544);
  return Buffer.concat([header, rest, options.trailing ?? new Uint8Array()]);
}

export interface TestSigner {
  readonly keyPem: string;
  readonly certificatePem: string;
}

/** A key and its self-signed certificate, made by OpenSSL. */
export function testSigner(curve: 'prime256v1' | 'secp384r1' | 'secp521r1', days = '30'): TestSigner {
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-signer-'));
  try {
    const [key, certificate] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
    const request = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:${curve} -nodes -subj /CN=test -days ${days}`;
    execFileSync('openssl', [...request.split(' '), '-keyout', key, '-out', certificate], {
      stdio: 'ignore',
    });
    return { keyPem: readFileSync(key, 'utf8'), certificatePem: readFileSync(certificate, 'utf8') };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** CBOR by hand: integers, byte strings, arrays and maps as signing tools write them. */
export function cborHead(major: number, value: number): Buffer {
  const top = major << 5;
  if (value < 24) return Buffer.of(top | value);
  if (value < 256) return Buffer.of(top | 24, value);
  return Buffer.of(top | 25, value >> 8, value & 255);
}
export const cborText = (text: string) => Buffer.concat([cborHead(3, text.length), Buffer.from(text)]);
export const cborBytes = (bytes: Uint8Array) => Buffer.concat([cborHead(2, bytes.length), bytes]);
export const cborArray = (items: readonly Uint8Array[]) =>
  Buffer.concat([cborHead(4, items.length), ...items]);
export const cborIntegers = (bytes: Uint8Array) => cborArray([...bytes].map((byte) => cborHead(0, byte)));
