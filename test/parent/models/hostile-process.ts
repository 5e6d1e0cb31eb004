/**
 * Run in an environment of the test's choice: reads one file from S3 as the parent does, and prints its bytes,
 * whom it contacted and which files it opened meanwhile.
 */
import fs from 'node:fs';
import fsPromises from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import net from 'node:net';
import { buffer, text } from 'node:stream/consumers';
import type { ModelsConfig } from '../../../parent/config/models.ts';

const contacted: string[] = [];
const opened: string[] = [];

// biome-ignore lint/suspicious/noExplicitAny: Node's own functions, whatever their shape
type AnyFunction = (this: any, ...args: any[]) => any;

function watch(owner: object, name: string, tell: (args: unknown[]) => void): void {
  const functions = owner as Record<string, AnyFunction>;
  const original = functions[name] as AnyFunction;
  functions[name] = function (...args) {
    tell(args);
    return Reflect.apply(original, this, args);
  };
}

watch(net.Socket.prototype, 'connect', ([first]) => {
  const { host, port } = Object(Array.isArray(first) ? first[0] : first);
  contacted.push(`${host}:${port}`);
});
for (const name of ['readFile', 'readFileSync', 'open', 'openSync', 'createReadStream']) {
  watch(fs, name, ([path]) => opened.push(String(path)));
}
for (const name of ['readFile', 'open']) watch(fsPromises, name, ([path]) => opened.push(String(path)));
syncBuiltinESMExports();

const task = JSON.parse(await text(process.stdin)) as { config: ModelsConfig; credentials: string };
const { openModelStore } = await import('../../../parent/models/open-store.ts');
const { REMOTE_LIMITS } = await import('../../../parent/models/patience.ts');
const { parseAwsCredentials } = await import('../../../shared/credentials/aws-credentials.ts');
const store = openModelStore(task.config, {
  credentials: { provide: async () => parseAwsCredentials(Buffer.from(task.credentials)) },
  observe: () => {},
  now: Date.now,
  limits: REMOTE_LIMITS,
});
await using file = await store.open('iris', 'head', new AbortController().signal);
if (file === undefined) throw new Error('no such file');
const bytes = await buffer(await file.read({ first: 0, last: file.sizeBytes - 1 }));
const outcome = JSON.stringify({ text: bytes.toString(), contacted: [...new Set(contacted)], opened });
process.stdout.write(outcome, () => process.exit(0));
