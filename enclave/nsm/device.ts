/**
 * /dev/nsm: one ioctl that carries a CBOR request in and a CBOR response out (Linux drivers/misc/nsm.c,
 * include/uapi/linux/nsm.h). Its argument is a struct of two iovecs, 32 bytes:
 *
 *     u64 request address   u64 request length   u64 response address   u64 response length
 *
 * The driver holds one mutex and may take seconds, so the call runs on one of koffi's threads and never on
 * the event loop. The driver writes the length of the response back into the struct.
 */
import { fchmod, open } from 'node:fs';
import { promisify } from 'node:util';
import koffi, { type KoffiFunc } from 'koffi';
import { NSM_REQUEST_MAX_BYTES, NSM_RESPONSE_MAX_BYTES } from '../../shared/nsm/request.ts';
import type { NsmSend } from './client.ts';
import { NsmError } from './errors.ts';

/** _IOWR(0x0A, 0, 32 bytes) */
export const NSM_IOCTL = 0xc020_0a00;
const ARGUMENT_BYTES = 32;
const RESPONSE_LENGTH_OFFSET = 24;

/**
 * Sends to the device, which is opened by the first request and stays open. The kernel's driver makes it with
 * mode 0666 (drivers/misc/nsm.c); from the first request on, no engine's uid can open it. Rejects with NsmError:
 * NSM_DEVICE_MISSING outside an enclave, NSM_DEVICE_FAILED for anything else that goes wrong on the way.
 */
export function nsmDevice(path = '/dev/nsm'): NsmSend {
  let opened: Promise<number> | undefined;
  return async (request) => {
    opened ??= openDevice(path);
    return exchange(path, await opened, request);
  };
}

async function openDevice(path: string): Promise<number> {
  try {
    const fd = await promisify(open)(path, 'r+');
    await promisify(fchmod)(fd, 0o600);
    return fd;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') {
      throw new NsmError('NSM_DEVICE_MISSING', `${path} does not exist: this is not a Nitro enclave.`, error);
    }
    throw new NsmError('NSM_DEVICE_FAILED', `${path} cannot be opened (${codeOf(error)}).`, error);
  }
}

async function exchange(path: string, fd: number, request: Uint8Array): Promise<Uint8Array> {
  if (request.length > NSM_REQUEST_MAX_BYTES) {
    throw new NsmError(
      'NSM_INPUT_TOO_LARGE',
      `The NSM takes requests of at most ${NSM_REQUEST_MAX_BYTES} bytes, found ${request.length}.`,
    );
  }
  const input = unmovable(request.length);
  input.set(request);
  const response = unmovable(NSM_RESPONSE_MAX_BYTES);
  try {
    const argument = packArgument(input, response);
    const errno = await ioctl(fd, NSM_IOCTL, argument);
    if (errno !== 0) throw deviceError(path, errno);
    return response.slice(0, responseLength(path, argument));
  } finally {
    input.fill(0);
    response.fill(0);
  }
}

/** The ioctl's argument. Its addresses hold while `request` and `response` are referenced. */
export function packArgument(request: Uint8Array, response: Uint8Array): Uint8Array {
  const argument = unmovable(ARGUMENT_BYTES);
  const fields = new BigUint64Array(argument.buffer);
  fields[0] = koffi.address(request);
  fields[1] = BigInt(request.length);
  fields[2] = koffi.address(response);
  fields[3] = BigInt(response.length);
  return argument;
}

function responseLength(path: string, argument: Uint8Array): number {
  const length = new DataView(argument.buffer).getBigUint64(RESPONSE_LENGTH_OFFSET, true);
  if (length > NSM_RESPONSE_MAX_BYTES) {
    throw new NsmError('NSM_ANSWER_UNUSABLE', `${path} reports a response of ${length} bytes.`);
  }
  return Number(length);
}

/** V8 moves small typed arrays about; the memory of an ArrayBuffer of its own stays where it is. */
function unmovable(bytes: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new ArrayBuffer(bytes));
}

type Ioctl = (fd: number, number: number, argument: Uint8Array) => number;
let nativeIoctl: KoffiFunc<Ioctl> | undefined;

/** Resolves to 0 or the errno. koffi restores the call's own errno while it runs the callback. */
function ioctl(fd: number, number: number, argument: Uint8Array): Promise<number> {
  nativeIoctl ??= koffi
    .load('libc.so.6')
    .func('int ioctl(int fd, unsigned long number, void *argument)') as unknown as KoffiFunc<Ioctl>;
  const call = nativeIoctl;
  return new Promise((resolve, reject) => {
    call.async(fd, number, argument, (error, result) => {
      if (error === null) resolve(result === 0 ? 0 : koffi.errno());
      else reject(error);
    });
  });
}

function deviceError(path: string, errno: number): NsmError {
  const name = Object.entries(koffi.os.errno).find(([, number]) => number === errno)?.[0] ?? `errno ${errno}`;
  switch (name) {
    case 'EMSGSIZE':
      return new NsmError('NSM_INPUT_TOO_LARGE', `${path} says that the request is too large (EMSGSIZE).`);
    case 'ENOTTY':
      return new NsmError('NSM_DEVICE_FAILED', `${path} is not an NSM device (ENOTTY).`);
    case 'EINVAL':
      return new NsmError(
        'NSM_DEVICE_FAILED',
        `${path} does not know this request number (EINVAL): another driver version?`,
      );
    case 'ETIMEDOUT':
      return new NsmError('NSM_DEVICE_FAILED', `${path} did not answer in the driver's 120 s (ETIMEDOUT).`);
    default:
      return new NsmError('NSM_DEVICE_FAILED', `${path} failed with ${name}.`);
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}
