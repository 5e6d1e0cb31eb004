/** Everything that the checks look at, so that they can look at a folder and small servers just as well. */
import { constants, readFileSync } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { IMDS_ENDPOINT } from '../../parent/credentials/instance-role.ts';
import { type Resolve, resolveBySystem } from '../../parent/egress/dial.ts';

export interface World {
  /** The folder that holds dev, etc, proc, run and sys. */
  readonly root: string;
  readonly node: { readonly version: string; readonly platform: string; readonly architecture: string };
  readonly user: { readonly id: number; readonly groups: readonly number[] };
  /** Where the configuration names none. */
  readonly nitroCli: string;
  readonly systemctl: string;
  readonly imdsEndpoint: string;
  readonly resolve: Resolve;
  /** The only roots that the enclave accepts for KMS, as PEM. */
  readonly kmsRoots: readonly string[];
  readonly now: () => number;
  /** The parent's configuration; undefined leaves out every check that needs one. */
  readonly configPath: string | undefined;
  /** Opens a device for reading and writing, and closes it again. Resolves to the errno's name if that fails. */
  readonly openDevice: (path: string) => Promise<string | undefined>;
  /** Makes an AF_VSOCK socket and closes it again. Throws LinkError. */
  readonly openVsock: () => Promise<void>;
}

/** This host. */
export function thisWorld(configPath: string | undefined): World {
  return {
    root: '/',
    node: { version: process.versions.node, platform: process.platform, architecture: process.arch },
    user: { id: process.getuid?.() ?? 0, groups: process.getgroups?.() ?? [] },
    nitroCli: '/usr/bin/nitro-cli',
    systemctl: '/usr/bin/systemctl',
    imdsEndpoint: IMDS_ENDPOINT,
    resolve: resolveBySystem,
    kmsRoots: amazonRoots(),
    now: Date.now,
    configPath,
    openDevice,
    openVsock,
  };
}

/** A file below the root, or undefined if there is none. Throws what the file system throws otherwise. */
export async function readText(world: World, path: string): Promise<string | undefined> {
  try {
    return await readFile(join(world.root, path), 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

/** The file of the image itself: what the enclave will accept, and nothing else. */
function amazonRoots(): readonly string[] {
  const pem = readFileSync(new URL('../../enclave/kms/amazon-roots.pem', import.meta.url), 'latin1');
  return pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
}

async function openDevice(path: string): Promise<string | undefined> {
  try {
    const device = await open(path, constants.O_RDWR);
    await device.close();
    return undefined;
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
  }
}

async function openVsock(): Promise<void> {
  // Loaded only here: it brings native calls along.
  const native = await import('../../link/vsock-socket.ts');
  native.closeDescriptor(native.openVsock());
}
