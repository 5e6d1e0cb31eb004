/** A supervisor that has used up its descriptors. Prints the code of the refusal; anything unheard ends it with 9. */
import { openSync } from 'node:fs';
import { spawnEngine } from '../../../../enclave/engine/engine-process.ts';

process.on('uncaughtException', () => process.exit(9));
try {
  for (;;) openSync('/dev/null', 'r');
} catch {}
const code = await spawnEngine(
  { external: [], tokenizer: [], modelFd: 0, threads: 1, entry: '/nowhere.ts', startTimeoutMs: 1_000 },
  { start: {}, readReady: () => undefined },
).then(
  () => 'started',
  (error) => String(error.code),
);
process.stdout.write(code);
