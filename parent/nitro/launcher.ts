/** An enclave that nitro-cli starts, as the supervisor sees it. */
import { stat } from 'node:fs/promises';
import type { NitroCliConfig } from '../config/enclave.ts';
import type { Observe } from '../observe.ts';
import type { Launcher, Sight } from '../supervise.ts';
import { NitroError } from './errors.ts';
import type { DescribedEnclave, NitroCli } from './nitro-cli.ts';

export interface NitroLauncherOptions {
  readonly cli: NitroCli;
  /** The context id that the link dials; undefined lets nitro-cli choose. */
  readonly cid: number | undefined;
  readonly observe: Observe;
}

const MEASURING_MS_PER_GIB = 20_000;

export function nitroLauncher(config: NitroCliConfig, options: NitroLauncherOptions): Launcher {
  const { cli, cid, observe } = options;
  const isOurs = ({ name }: DescribedEnclave): boolean => name === config.name;
  let id: string | undefined;

  async function inspect(imageSizeBytes: number): Promise<void> {
    const { enclaves } = await cli.describe((imageSizeBytes / 1024 ** 3) * MEASURING_MS_PER_GIB);
    const ours = enclaves.find((enclave) => enclave.id === id);
    if (ours === undefined) return;
    if (ours.flags !== 'NONE') {
      throw new NitroError('NITRO_DEBUG_MODE', `Expected an enclave without flags, found ${ours.flags}.`);
    }
    if (config.pcr0 !== undefined && ours.pcr0 !== undefined && ours.pcr0 !== config.pcr0) {
      throw new NitroError(
        'NITRO_IMAGE_MISMATCH',
        `${config.image}: expected PCR0 ${config.pcr0}, found ${ours.pcr0}.`,
      );
    }
  }

  return {
    clear: async () => {
      const { enclaves } = await cli.describe();
      for (const leftover of enclaves.filter(isOurs)) {
        observe({ event: 'enclave-leftover', id: leftover.id, cid: leftover.cid });
        await terminate(cli, leftover.id);
      }
      const taken = enclaves.find((enclave) => enclave.cid === cid && !isOurs(enclave));
      if (taken !== undefined) throw cidTaken(taken);
    },
    start: async (signal) => {
      const { name, image, cpuCount, memoryMib } = config;
      const imageSizeBytes = (await stat(image)).size;
      const started = await cli.run({ name, image, imageSizeBytes, cpuCount, memoryMib, cid }, signal);
      id = started.id;
      observe({ event: 'enclave-started', id, cid: started.cid, cpuCount, memoryMib });
      await inspect(imageSizeBytes);
    },
    look: async (): Promise<Sight> => {
      const { enclaves, complete } = await cli.describe();
      const ours = enclaves.find((enclave) => enclave.id === id);
      if (ours !== undefined) return ours.state === 'RUNNING' ? 'running' : 'gone';
      return complete ? 'gone' : 'unknown';
    },
    terminate: async () => {
      // By name, because a run-enclave that was cut short may have left one whose id nobody was told.
      const { enclaves, complete } = await cli.describe();
      const ours = enclaves.filter(isOurs);
      for (const enclave of ours) await terminate(cli, enclave.id);
      if (ours.length === 0 && !complete) throw notSeen(config.name);
      id = undefined;
    },
  };
}

/** An enclave that has ended by itself meanwhile is as good as one that was terminated. */
async function terminate(cli: NitroCli, id: string): Promise<void> {
  try {
    await cli.terminate(id);
  } catch (error) {
    const { enclaves, complete } = await cli.describe();
    if (!complete || enclaves.some((enclave) => enclave.id === id)) throw error;
  }
}

function notSeen(name: string): NitroError {
  return new NitroError(
    'NITRO_CLI_FAILED',
    `nitro-cli describe-enclaves did not reach every enclave, so one named "${name}" may be left. Try again.`,
  );
}

function cidTaken({ cid, name, id }: DescribedEnclave): NitroError {
  return new NitroError('NITRO_CID_TAKEN', `Context id ${cid} belongs to the enclave "${name}" (${id}).`);
}
