/**
 * A character device that this process serves, by CUSE (Linux fs/fuse/cuse.c, include/uapi/linux/fuse.h): read
 * a request from /dev/cuse, write the answer. Only open, close and ioctl are served.
 *
 * The device is opened for unrestricted ioctls: their argument is an address of the caller, of which the kernel
 * knows nothing. So an ioctl comes up to three times: we answer the first with the memory to fetch (the
 * caller's struct), the second with the memory that the struct points at, and the third with the result.
 */
import { writeSync } from 'node:fs';
import { open } from 'node:fs/promises';

/** What drivers/misc/nsm.c makes of one ioctl: an errno, or the response and the length to report. */
export type IoctlAnswer =
  | { readonly errno: number }
  | { readonly response: Uint8Array; readonly reportedLength?: number };
export type ServeIoctl = (command: number, request: Uint8Array) => Promise<IoctlAnswer>;

const CUSE_INIT = 4096;
const FUSE_OPEN = 14;
const FUSE_RELEASE = 18;
const FUSE_INTERRUPT = 36;
const FUSE_IOCTL = 39;
const IN_HEADER_BYTES = 40;
const OUT_HEADER_BYTES = 16;
const IOCTL_IN_BYTES = 32;
const UNRESTRICTED_IOCTL = 1;
const IOCTL_RETRY = 4;
const ARGUMENT_BYTES = 32;
const ENOSYS = 38;
const IO_BYTES = 1 << 17;

/** Resolves once the device exists; serves it until the process ends. Ioctls are served as they come, also at once. */
export async function serveCharacterDevice(name: string, serve: ServeIoctl): Promise<void> {
  const { fd, read } = await openCuse();
  const answer = (unique: bigint, error: number, ...parts: readonly Uint8Array[]): void => {
    const header = Buffer.alloc(OUT_HEADER_BYTES);
    const body = Buffer.concat(parts);
    header.writeUInt32LE(OUT_HEADER_BYTES + body.length, 0);
    header.writeInt32LE(-error, 4);
    header.writeBigUInt64LE(unique, 8);
    writeSync(fd, Buffer.concat([header, body]));
  };
  const first = await read();
  if (first.opcode !== CUSE_INIT) throw new Error(`expected CUSE_INIT, found opcode ${first.opcode}`);
  answer(first.unique, 0, initAnswer(first.body), Buffer.from(`DEVNAME=${name}\0`));

  const loop = async (): Promise<never> => {
    for (;;) {
      const { opcode, unique, body } = await read();
      if (opcode === FUSE_OPEN) answer(unique, 0, Buffer.alloc(16));
      else if (opcode === FUSE_RELEASE) answer(unique, 0);
      else if (opcode === FUSE_IOCTL) void ioctl(body, serve, (...result) => answer(unique, ...result));
      else if (opcode !== FUSE_INTERRUPT) answer(unique, ENOSYS);
    }
  };
  void loop();
}

async function ioctl(
  body: Buffer,
  serve: ServeIoctl,
  answer: (error: number, ...parts: readonly Uint8Array[]) => void,
): Promise<void> {
  const command = body.readUInt32LE(12);
  const argument = { address: body.readBigUInt64LE(16), length: BigInt(ARGUMENT_BYTES) };
  const fetched = body.subarray(IOCTL_IN_BYTES);
  if (fetched.length < ARGUMENT_BYTES) return answer(0, ioctlOut([argument], []), memory([argument]));

  const struct = fetched.subarray(0, ARGUMENT_BYTES);
  const request = { address: struct.readBigUInt64LE(0), length: struct.readBigUInt64LE(8) };
  const response = { address: struct.readBigUInt64LE(16), length: struct.readBigUInt64LE(24) };
  const out = [argument, response];
  // The driver looks at the length before it copies the request (NSM_REQUEST_MAX_SIZE).
  if (request.length > 4096n) return answer(90);
  if (fetched.length === ARGUMENT_BYTES) {
    return answer(0, ioctlOut([argument, request], out), memory([argument, request, ...out]));
  }
  const result = await serve(command, Buffer.from(fetched.subarray(ARGUMENT_BYTES)));
  if ('errno' in result) return answer(result.errno);
  const bytes = result.response.subarray(0, Number(response.length));
  struct.writeBigUInt64LE(BigInt(result.reportedLength ?? bytes.length), 24);
  answer(0, Buffer.alloc(16), struct, bytes);
}

interface Memory {
  readonly address: bigint;
  readonly length: bigint;
}

/** struct fuse_ioctl_out that asks for memory: what to copy in, and where the result will go. */
function ioctlOut(input: readonly Memory[], output: readonly Memory[]): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt32LE(IOCTL_RETRY, 4);
  bytes.writeUInt32LE(input.length, 8);
  bytes.writeUInt32LE(output.length, 12);
  return bytes;
}

function memory(parts: readonly Memory[]): Buffer {
  const bytes = Buffer.alloc(parts.length * 16);
  for (const [index, { address, length }] of parts.entries()) {
    bytes.writeBigUInt64LE(address, index * 16);
    bytes.writeBigUInt64LE(length, index * 16 + 8);
  }
  return bytes;
}

/** struct cuse_init_out, in the kernel's own version of the protocol. */
function initAnswer(init: Buffer): Buffer {
  const bytes = Buffer.alloc(72);
  bytes.writeUInt32LE(init.readUInt32LE(0), 0);
  bytes.writeUInt32LE(init.readUInt32LE(4), 4);
  bytes.writeUInt32LE(UNRESTRICTED_IOCTL, 12);
  bytes.writeUInt32LE(IO_BYTES / 2, 16);
  bytes.writeUInt32LE(IO_BYTES / 2, 20);
  return bytes;
}

interface FuseRequest {
  readonly opcode: number;
  readonly unique: bigint;
  readonly body: Buffer;
}

async function openCuse(): Promise<{ fd: number; read: () => Promise<FuseRequest> }> {
  const handle = await open('/dev/cuse', 'r+');
  const buffer = Buffer.alloc(IO_BYTES);
  const read = async (): Promise<FuseRequest> => {
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, null);
    return {
      opcode: buffer.readUInt32LE(4),
      unique: buffer.readBigUInt64LE(8),
      body: Buffer.from(buffer.subarray(IN_HEADER_BYTES, bytesRead)),
    };
  };
  return { fd: handle.fd, read };
}
