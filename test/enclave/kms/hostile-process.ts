/**
 * Run in an environment of the test's choice: asks KMS once, as the enclave does or as an ordinary client would,
 * and prints what came of it, whom it contacted and which files it opened.
 */
import childProcess from 'node:child_process';
import dns from 'node:dns';
import fs from 'node:fs';
import fsPromises from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import net from 'node:net';
import { text } from 'node:stream/consumers';

const contacted: string[] = [];
const opened: string[] = [];
const started: string[] = [];

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
  const { host, port, path } = Object(Array.isArray(first) ? first[0] : first);
  contacted.push(path === undefined ? `${host}:${port}` : 'unix');
});
watch(dns, 'lookup', ([name]) => contacted.push(`name ${name}`));
for (const name of ['readFile', 'readFileSync', 'open', 'openSync', 'createReadStream']) {
  watch(fs, name, ([path]) => opened.push(String(path)));
}
for (const name of ['readFile', 'open']) watch(fsPromises, name, ([path]) => opened.push(String(path)));
for (const name of ['spawn', 'exec', 'execFile', 'spawnSync', 'execSync', 'execFileSync']) {
  watch(childProcess, name, ([command]) => started.push(String(command)));
}
syncBuiltinESMExports();

export interface Task {
  readonly as: 'enclave' | 'ordinary client';
  readonly port: number;
  readonly roots: readonly string[];
  readonly nsmSocket: string;
  readonly keyArn: string;
  /** base64 */
  readonly ciphertextBlob: string;
  readonly encryptionContext: Readonly<Record<string, string>>;
}

export interface Outcome {
  /** base64 */
  readonly dataKey?: string;
  readonly code?: string;
  readonly contacted: readonly string[];
  readonly opened: readonly string[];
  readonly started: readonly string[];
}

const task = JSON.parse(await text(process.stdin)) as Task;
let result: Pick<Outcome, 'dataKey' | 'code'>;
try {
  result = {
    dataKey: Buffer.from(await (task.as === 'enclave' ? asEnclave() : asOrdinaryClient())).toString('base64'),
  };
} catch (error) {
  const { code, name } = error as { code?: string; name: string };
  result = { code: code ?? name };
}
const outcome: Outcome = { ...result, contacted, opened, started };
process.stdout.write(JSON.stringify(outcome), () => process.exit(0));

async function asEnclave(): Promise<Uint8Array> {
  const { releaseDataKey } = await import('../../../enclave/kms/release.ts');
  const { nsmClient } = await import('../../../enclave/nsm/client.ts');
  const { parseKmsKeyArn } = await import('../../../shared/deployment/kms-key.ts');
  const { hypervisorSocket } = await import('../../../simulator/nsm/socket-client.ts');
  const { tunnelsTo } = await import('./support.ts');
  const hypervisor = await hypervisorSocket(task.nsmSocket);
  const tunnels = tunnelsTo(task.port);
  contacted.length = 0;
  opened.length = 0;
  const released = await releaseDataKey({
    nsm: nsmClient((request) => hypervisor.nsm(request)),
    connection: { host: tunnels, roots: task.roots },
    allowedKeys: [parseKmsKeyArn(task.keyArn)],
    wraps: [{ keyArn: task.keyArn, ciphertextBlob: Buffer.from(task.ciphertextBlob, 'base64') }],
    encryptionContext: task.encryptionContext,
  });
  contacted.push(...tunnels.dialled.map((address) => `tunnel ${address}`));
  return released;
}

/** What the environment does to a client that leaves the SDK its choices. */
async function asOrdinaryClient(): Promise<Uint8Array> {
  const { DecryptCommand, KMSClient } = await import('@aws-sdk/client-kms');
  const client = new KMSClient({ maxAttempts: 1 });
  const { Plaintext } = await client.send(
    new DecryptCommand({ CiphertextBlob: Buffer.from(task.ciphertextBlob, 'base64') }),
  );
  return Plaintext ?? new Uint8Array();
}
