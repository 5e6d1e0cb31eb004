/**
 * A project of a few of our own files with a small enclave program, for tests of the hypervisor alone. The
 * program reports steps, does what a boot does with registers, and then stays until it is ended.
 */
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const ROOT = join(import.meta.dirname, '..', '..');
const OURS = [
  'shared',
  'enclave/package.json',
  'enclave/errors.ts',
  'enclave/start-guard.ts',
  'enclave/nsm',
  'simulator/package.json',
  'simulator/nsm',
];

export const PROGRAM = `
import { writeFileSync } from 'node:fs';
import { nsmClient } from '../enclave/nsm/client.ts';
import { refuseUnsafeStart } from '../enclave/start-guard.ts';
import { hypervisorSocket } from './nsm/socket-client.ts';

refuseUnsafeStart();
const hypervisor = await hypervisorSocket('nsm.sock');
const nsm = nsmClient((request) => hypervisor.nsm(request));
await hypervisor.reached('started');
await nsm.extendPcr(16, new TextEncoder().encode('deployment'));
await nsm.lockPcrs(32);
const document = await nsm.attest({ userData: null, nonce: new Uint8Array(32), publicKey: null });
writeFileSync('document', document);
console.log(JSON.stringify({ execPath: process.execPath, env: process.env, cwd: process.cwd() }));
await hypervisor.reached('serving');
setInterval(() => {}, 1000);
`;

export interface Project {
  readonly folder: string;
  write(path: string, content: string): void;
  remove(): void;
}

export function enclaveProject(program = PROGRAM): Project {
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-project-'));
  for (const path of OURS) cpSync(join(ROOT, path), join(folder, path), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  const write = (path: string, content: string) => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  };
  write('enclave/main.ts', "import './nsm/device.ts';\n");
  write('docs/flow.md', '# Flow\n');
  write('simulator/enclave.ts', program);
  return { folder, write, remove: () => rmSync(folder, { recursive: true, force: true }) };
}
