/** Opens a sealed model and waits at each stage, so that memory.test.ts can look into this process. */
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { parseHead } from '../../../shared/sealed-model/head.ts';
import { openSealedModel } from '../../../shared/sealed-model/open.ts';
import { fileSource } from '../../../shared/sealed-model/source.ts';
import { unlockHead } from '../../../shared/sealed-model/unlock.ts';

const [headFile, payloadFile, maskedKeyFile] = process.argv.slice(2) as [string, string, string];
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
async function stage(name: string): Promise<void> {
  process.stdout.write(`${name}\n`);
  await lines.next();
}

const dataKey = new Uint8Array(new ArrayBuffer(32));
// Masked on disk and read by single bytes, so that the key stands nowhere but in `dataKey`.
for (const [at, byte] of readFileSync(maskedKeyFile).entries()) dataKey[at] = byte ^ 0xa5;
await stage('key');

const file = await fileSource(payloadFile);
const unlocked = unlockHead(parseHead(readFileSync(headFile)), dataKey);
dataKey.fill(0);
const target = new SharedArrayBuffer(unlocked.head.payloadSizeBytes);
let waiting = true;
const source = {
  sizeBytes: file.sizeBytes,
  async read(offset: number, bytes: Uint8Array): Promise<void> {
    await file.read(offset, bytes);
    if (offset === 8 << 20 && waiting) {
      waiting = false;
      await stage('opening');
    }
  },
};
await openSealedModel(unlocked, source, { kind: 'memory', buffer: target }, { workers: 2 });
unlocked.wipe();
await stage('open');
process.exit(new Uint8Array(target)[0] === undefined ? 1 : 0);
