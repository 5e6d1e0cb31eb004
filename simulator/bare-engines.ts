/**
 * The enclave's engines without an enclave around them, for whoever times what the rest costs: each in its confined
 * process, as the enclave starts it, with a model that lies in memory.
 */
import { closeSync, constants, fchmodSync, openSync, writeSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { getuid } from 'node:process';
import type { TextEngine } from '../enclave/engine/engine.ts';
import { startTextEngine } from '../enclave/engine/text-engine.ts';

const ENGINE_UID = 65533;
/** open(2): O_TMPFILE, which Node does not name. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;

export interface BareTextEngine extends AsyncDisposable {
  readonly engine: TextEngine;
}

/** Threads as an enclave on this machine would give it. Rejects with EngineError. */
export async function startBareTextEngine(gguf: Iterable<Uint8Array>): Promise<BareTextEngine> {
  const written = openSync('/dev/shm', constants.O_RDWR | O_TMPFILE, 0o600);
  for (const piece of gguf) {
    for (let offset = 0; offset < piece.length; ) offset += writeSync(written, piece, offset);
  }
  fchmodSync(written, 0o444);
  const modelFd = openSync(`/proc/self/fd/${written}`, constants.O_RDONLY);
  closeSync(written);
  const engine = await startTextEngine({
    modelFd,
    threads: Math.max(1, availableParallelism() - 1),
    ...(getuid?.() === 0 ? { uid: ENGINE_UID } : {}),
  });
  return {
    engine,
    [Symbol.asyncDispose]: async () => {
      await engine.close();
      closeSync(modelFd);
    },
  };
}
