/**
 * mmap(2), which Node does not offer: an engine reads the weights where they are instead of holding a copy.
 *
 * Constants: Linux include/uapi/asm-generic/mman-common.h, the same on x86_64 and aarch64.
 */
import { fstatSync } from 'node:fs';
import koffi from 'koffi';
import { EngineError } from '../engine/errors.ts';

const PROT_READ = 1;
const MAP_PRIVATE = 2;

const libc = koffi.load(null);
const mmap = libc.func('void *mmap(void *, size_t, int, int, int, int64_t)');
const MAP_FAILED = 2n ** 64n - 1n;

/**
 * The whole file, for reading: whoever writes to it ends the process. It stays mapped for the process's life, so
 * native code may keep pointers to it. Throws EngineError ENGINE_START_FAILED.
 */
export function mapFile(descriptor: number): Uint8Array {
  const { size } = fstatSync(descriptor);
  if (size === 0) return new Uint8Array(0);
  const address = mmap(null, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  if (koffi.address(address) === MAP_FAILED) {
    throw new EngineError('ENGINE_START_FAILED', `mmap of ${size} bytes failed with errno ${koffi.errno()}`);
  }
  return new Uint8Array(koffi.view(address, size));
}
