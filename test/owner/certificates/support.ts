/** Certificates made by the code under test, in a folder of the test's own, and openssl's opinion of them. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { permittedName } from '../../../owner/certificates/constraints.ts';
import { createFolder, readFolder } from '../../../owner/certificates/folder.ts';
import {
  type Curve,
  createCa,
  type Holder,
  issueCertificate,
  type Pair,
} from '../../../owner/certificates/issue.ts';
import { serverName, spiffeId } from '../../../owner/certificates/names.ts';

export const opensslIsAbsent = spawnSync('openssl', ['version']).status !== 0;
export const DAY_MS = 24 * 3600 * 1000;

export interface Made {
  readonly folder: string;
  readonly pair: Pair;
}

export interface Workshop extends AsyncDisposable {
  readonly folder: string;
  ca(
    name: string,
    permitted: readonly string[],
    options?: { days?: number; curve?: Curve; at?: Date },
  ): Promise<Holder>;
  server(
    ca: Holder,
    name: string,
    names: readonly [string, ...string[]],
    options?: LeafOptions,
  ): Promise<Made>;
  client(ca: Holder, name: string, id: string, options?: LeafOptions): Promise<Made>;
}

interface LeafOptions {
  readonly days?: number;
  readonly curve?: Curve;
  readonly at?: Date;
}

export async function workshop(): Promise<Workshop> {
  const folder = await mkdtemp(join(tmpdir(), 'sr-cert-'));
  const keep = async (name: string, pair: Pair): Promise<Made> => {
    await createFolder(join(folder, name), pair);
    return { folder: join(folder, name), pair };
  };
  return {
    folder,
    ca: async (name, permitted, { days = 1825, curve = 'P-384', at = new Date() } = {}) => {
      const made = await keep(name, createCa({ at, days, curve, permitted: permitted.map(permittedName) }));
      return readFolder(made.folder);
    },
    server: async (ca, name, [first, ...rest], { days = 90, curve = 'P-256', at = new Date() } = {}) =>
      keep(
        name,
        issueCertificate(ca, {
          at,
          days,
          curve,
          use: 'server',
          names: [serverName(first), ...rest.map(serverName)],
        }),
      ),
    client: async (ca, name, id, { days = 90, curve = 'P-256', at = new Date() } = {}) =>
      keep(name, issueCertificate(ca, { at, days, curve, use: 'client', names: [spiffeId(id)] })),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

/** What `openssl verify` says: undefined if the certificate leads to the CA for this purpose. */
export async function opensslRefusal(
  ca: string,
  leaf: string,
  purpose: 'sslserver' | 'sslclient',
  options: readonly string[] = ['-x509_strict'],
) {
  const folder = await mkdtemp(join(tmpdir(), 'sr-verify-'));
  try {
    await writeFile(join(folder, 'ca.pem'), ca);
    await writeFile(join(folder, 'leaf.pem'), leaf);
    const files = ['-CAfile', join(folder, 'ca.pem'), join(folder, 'leaf.pem')];
    const { status, stdout, stderr } = spawnSync('openssl', [
      'verify',
      ...options,
      '-purpose',
      purpose,
      ...files,
    ]);
    return status === 0 ? undefined : `${stdout}${stderr}`;
  } finally {
    await rm(folder, { recursive: true });
  }
}

export function opensslText(pem: string): string {
  return execFileSync('openssl', ['x509', '-noout', '-text', '-nameopt', 'RFC2253'], {
    input: pem,
  }).toString();
}
