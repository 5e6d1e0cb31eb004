import { resolve } from 'node:path';
import type { JsonValue } from '../../shared/json.ts';
import type { Reader } from './reader.ts';

/** Who starts the enclave and sees that it runs (docs/operations.md section 3). */
export type EnclaveConfig = NitroCliConfig | ExternalConfig;

/** The parent does, with nitro-cli. */
export interface NitroCliConfig {
  readonly kind: 'nitro-cli';
  /** The enclave image file. */
  readonly image: string;
  readonly cpuCount: number;
  readonly memoryMib: number;
  /** The enclave's name on this host, and how a parent that was killed finds its enclave again. */
  readonly name: string;
  /** An absolute path: what PATH leads to would be the environment's choice. */
  readonly program: string;
  /** The measurement that this image should have, so that a wrong file is named here and not by KMS. */
  readonly pcr0?: string;
  /** From the enclave's sign of life until it serves: attestation, and the models as fast as they come. */
  readonly bootTimeoutMs: number;
}

/** Another program does; the parent answers the sign of life on vsock port 9000 and watches. */
export interface ExternalConfig {
  readonly kind: 'external';
}

export const NITRO_CLI_PROGRAM = '/usr/bin/nitro-cli';
const NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;
const PCR = /^[0-9a-f]{96}$/;

export function parseEnclave(reader: Reader, value: JsonValue | undefined, folder: string): EnclaveConfig {
  const at = ['enclave'];
  const kind = reader.kind(value, at);
  if (kind === 'external') {
    reader.members(value, at, { required: ['kind'] });
    return { kind };
  }
  if (kind !== 'nitro-cli') throw reader.wrong([...at, 'kind'], '"nitro-cli" or "external"', kind);
  const enclave = reader.members(value, at, {
    required: ['kind', 'image', 'cpuCount', 'memoryMib'],
    optional: ['name', 'program', 'pcr0', 'bootTimeoutMs'],
  });
  const name = reader.text(enclave.name ?? 'strongroom', [...at, 'name']);
  if (!NAME.test(name)) throw reader.wrong([...at, 'name'], '1 to 64 of letters, digits, _ and -', name);
  const program = reader.text(enclave.program ?? NITRO_CLI_PROGRAM, [...at, 'program']);
  return {
    kind,
    image: resolve(folder, reader.text(enclave.image, [...at, 'image'])),
    cpuCount: reader.integer(enclave.cpuCount, [...at, 'cpuCount'], 2, 1_024),
    memoryMib: reader.integer(enclave.memoryMib, [...at, 'memoryMib'], 64, 33_554_432),
    name,
    program: resolve(folder, program),
    ...(enclave.pcr0 === undefined ? {} : { pcr0: parsePcr0(reader, enclave.pcr0) }),
    bootTimeoutMs: reader.integer(
      enclave.bootTimeoutMs ?? 1_800_000,
      [...at, 'bootTimeoutMs'],
      1_000,
      86_400_000,
    ),
  };
}

function parsePcr0(reader: Reader, value: JsonValue): string {
  const at = ['enclave', 'pcr0'];
  const pcr0 = reader.text(value, at);
  if (!PCR.test(pcr0)) throw reader.wrong(at, '96 lower-case hexadecimal digits', pcr0);
  // All zero is what an enclave in debug mode has: its memory and console are open to this host.
  if (/^0+$/.test(pcr0)) throw reader.wrong(at, 'the measurement of an image, not of debug mode', pcr0);
  return pcr0;
}
