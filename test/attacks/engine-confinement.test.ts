/**
 * An engine that was taken over by its model gets nothing: no socket, nothing of the enclave process, no
 * device, no program, no file. Proven by running a hostile engine twice: where the real one would be, and
 * without the confinement, where the very same attempts succeed.
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { reachableProject } from '../support/reachable.ts';
import { ATTEMPTS, type Outcome } from './hostile-engine/attempts.ts';

const STAND_IN = join(reachableProject(), 'test', 'attacks', 'hostile-engine', 'stand-in.ts');
const isRoot = process.getuid?.() === 0;
const ENGINE_UID = 61_234;
const USER_UID = 61_235;
/** What the kernel says when a confined process asks: refused, no such call, or a descriptor that cannot. */
const REFUSALS = ['EPERM', 'EACCES', 'ENOSYS', 'EBADF'];
/** c-ares has no errno to give when it gets no socket. */
const RESOLVER_REFUSAL = 'ECONNREFUSED';
/** A host without a facility proves nothing about it. */
const NO_FACILITY = ['ENOSYS', 'EAFNOSUPPORT', 'EOPNOTSUPP', 'ENODEV', 'ENOENT'];

/** The whole story as this user, or as another one if this is root. */
async function attack(mode: 'confined' | 'unconfined', options: { user?: number; engine?: number }) {
  const child = spawn(
    process.execPath,
    [STAND_IN, mode, ...(options.engine === undefined ? [] : [String(options.engine)])],
    {
      env: {},
      stdio: ['ignore', 'pipe', 'inherit'],
      ...(options.user === undefined ? {} : { uid: options.user, gid: options.user }),
    },
  );
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  const code = await new Promise((resolve) => child.once('close', resolve));
  expect(code).toBe(0);
  const outcomes = JSON.parse(Buffer.concat(chunks).toString()) as Outcome[];
  return new Map(outcomes.map(({ name, failure }) => [name, failure]));
}

function expectEveryRefusal(confined: ReadonlyMap<string, string | undefined>, asRoot: boolean): void {
  const gotThrough: string[] = [];
  for (const { name, rootOnly } of ATTEMPTS) {
    // Where engine and enclave share a user, that user's own 0600 file can be read; the ioctl still fails.
    if (rootOnly && name === 'the NSM device, reading' && !asRoot) continue;
    const failure = confined.get(name);
    const refused = name === 'asking a DNS server' ? [RESOLVER_REFUSAL, ...REFUSALS] : REFUSALS;
    if (failure === undefined || !refused.includes(failure)) gotThrough.push(`${name}: ${failure}`);
  }
  expect(confined.size).toBe(ATTEMPTS.length);
  expect(gotThrough).toEqual([]);
}

function expectEverySuccess(unconfined: ReadonlyMap<string, string | undefined>, asRoot: boolean): void {
  const failed: string[] = [];
  for (const { name, rootOnly, facility } of ATTEMPTS) {
    const failure = unconfined.get(name);
    if (failure === undefined) continue;
    if (rootOnly && !asRoot) continue;
    if (facility !== undefined && NO_FACILITY.includes(failure)) {
      console.warn(`this host has no ${facility} (${failure}): nothing is proven about "${name}"`);
    } else if (facility !== undefined && !asRoot) {
      console.warn(
        `this host gives ${facility} to root alone (${failure}): nothing is proven about "${name}"`,
      );
    } else if (!asRoot && otherProcessesAreClosed() && /PPID|ptrace|process_vm/.test(name)) {
      console.warn(`this host lets nobody look into other processes: nothing is proven about "${name}"`);
    } else failed.push(`${name}: ${failure}`);
  }
  expect(unconfined.size).toBe(ATTEMPTS.length);
  expect(failed).toEqual([]);
}

/** The Yama security module keeps children out of their parents, whatever the user. */
function otherProcessesAreClosed(): boolean {
  const setting = '/proc/sys/kernel/yama/ptrace_scope';
  return existsSync(setting) && readFileSync(setting, 'latin1').trim() !== '0';
}

describe.skipIf(!isRoot)('as root, the engine under a user of its own', () => {
  it('refuses a hostile engine everything', async () => {
    expectEveryRefusal(await attack('confined', { engine: ENGINE_UID }), true);
  });

  it('would not be refused without the confinement', async () => {
    expectEverySuccess(await attack('unconfined', {}), true);
  });
});

describe('without root, engine and enclave under one user', () => {
  const user = isRoot ? { user: USER_UID } : {};

  it('refuses a hostile engine everything', async () => {
    expectEveryRefusal(await attack('confined', user), false);
  });

  it('would not be refused without the confinement', async () => {
    expectEverySuccess(await attack('unconfined', user), false);
  });
});
