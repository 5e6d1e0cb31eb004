/**
 * An image built by nitro-cli of an image in the Docker daemon, and measured here: what nitro-cli says of it must be
 * what the file says (AWS Nitro Enclaves User Guide, "nitro-cli build-enclave": one JSON document on standard
 * output, messages and error codes on standard error). Its kernel, init, driver and command line are its own.
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { explainNitroError, explainNitroExit } from '../../parent/nitro/error-codes.ts';
import { NitroError } from '../../parent/nitro/errors.ts';
import { EifError } from '../../review/image/eif/errors.ts';
import { fileStream } from '../../review/image/eif/file-stream.ts';
import { type MeasuredEif, measureEif } from '../../review/image/eif/measure-eif.ts';
import { putInPlace } from '../../review/image/eif/write-eif.ts';
import { parseStrictJson } from '../../shared/json.ts';

export interface NitroCliBuild {
  /** A path, or a name in PATH. */
  readonly program: string;
  /** Of an image in the Docker daemon: "strongroom:1". */
  readonly dockerUri: string;
  readonly imageName: string;
  /** Files in PEM; nitro-cli signs. */
  readonly signing: { readonly keyFile: string; readonly certificateFile: string } | undefined;
  readonly outputFile: string;
  readonly replace: boolean;
  /** When the certificate's dates are judged. */
  readonly at: Date;
  readonly signal?: AbortSignal | undefined;
}

const OUTPUT_MAX_BYTES = 1 << 20;

/** Throws NitroError (NITRO_CLI_*), EifError. */
export async function buildWithNitroCli(build: NitroCliBuild): Promise<MeasuredEif> {
  const { outputFile, replace } = build;
  if (!replace && existsSync(outputFile)) {
    throw new EifError('EIF_OUTPUT', `${outputFile} exists already.`);
  }
  const aside = `${resolve(outputFile)}.partial-${process.pid}`;
  const artifacts = mkdtempSync(join(tmpdir(), 'strongroom-nitro-cli-'));
  try {
    const said = measurementsIn(await run(build, aside, artifacts));
    const measured = await measureEif(fileStream(aside), { at: build.at });
    expectSame(said, measured);
    await flush(aside);
    await putInPlace(aside, outputFile, replace);
    return measured;
  } finally {
    rmSync(aside, { force: true });
    rmSync(artifacts, { recursive: true, force: true });
  }
}

function run(build: NitroCliBuild, output: string, artifacts: string): Promise<Buffer> {
  const { program, dockerUri, imageName, signing, signal } = build;
  const args = [
    'build-enclave',
    ...['--docker-uri', dockerUri],
    ...['--output-file', output],
    ...['--name', imageName],
    ...(signing === undefined
      ? []
      : [
          '--private-key',
          resolve(signing.keyFile),
          '--signing-certificate',
          resolve(signing.certificateFile),
        ]),
  ];
  // NITRO_CLI_BLOBS and DOCKER_HOST are for whoever runs the command to say. Left-overs are ours to remove.
  const env = { ...process.env, NITRO_CLI_ARTIFACTS: artifacts };
  return new Promise((done, fail) => {
    const settings = { encoding: 'buffer', maxBuffer: OUTPUT_MAX_BYTES, env, signal } as const;
    execFile(program, args, settings, (error, stdout, stderr) => {
      if (error === null) done(stdout);
      else if (signal?.aborted === true) fail(error);
      else fail(failureOf(program, error, stderr.toString('utf8')));
    });
  });
}

function failureOf(program: string, error: { code?: unknown; message: string }, stderr: string): NitroError {
  const { code } = error;
  if (code === 'ENOENT' || code === 'EACCES') {
    return new NitroError('NITRO_CLI_MISSING', `Cannot run ${program}: ${code}. ${BY_ITSELF}`);
  }
  if (code === 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER') {
    return new NitroError('NITRO_CLI_UNREADABLE', `${program} build-enclave wrote more than it has to say.`);
  }
  const explained =
    explainNitroError(stderr) ?? (typeof code === 'number' ? explainNitroExit(code) : undefined);
  const why =
    explained === undefined
      ? `status ${String(code)}: ${lastLines(stderr)}`
      : `${explained.code}, ${explained.means} ${explained.action}`;
  return new NitroError('NITRO_CLI_FAILED', `${program} build-enclave failed: ${why} ${BY_ITSELF}`);
}

const BY_ITSELF = 'Without --docker-uri, strongroom builds the image by itself.';

type SaidMeasurements = Readonly<Record<'PCR0' | 'PCR1' | 'PCR2', string>> & { readonly PCR8?: string };

function measurementsIn(stdout: Uint8Array): SaidMeasurements {
  const unreadable = (cause?: unknown) =>
    new NitroError('NITRO_CLI_UNREADABLE', 'nitro-cli build-enclave printed no measurements.', cause);
  let document: unknown;
  try {
    document = parseStrictJson(stdout, { maxBytes: OUTPUT_MAX_BYTES }).value;
  } catch (cause) {
    throw unreadable(cause);
  }
  const measurements = (document as { Measurements?: Record<string, unknown> } | null)?.Measurements;
  if (typeof measurements !== 'object' || measurements === null) throw unreadable();
  const isRegister = (value: unknown) => typeof value === 'string' && /^[0-9a-f]{96}$/i.test(value);
  const { PCR0, PCR1, PCR2, PCR8 } = measurements;
  if (![PCR0, PCR1, PCR2].every(isRegister) || !(PCR8 === undefined || isRegister(PCR8))) throw unreadable();
  return measurements as unknown as SaidMeasurements;
}

function expectSame(said: SaidMeasurements, { measurements, signature }: MeasuredEif): void {
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
  const found = {
    PCR0: hex(measurements.pcr0),
    PCR1: hex(measurements.pcr1),
    PCR2: hex(measurements.pcr2),
    PCR8: signature === undefined ? undefined : hex(measurements.pcr8),
  };
  for (const name of ['PCR0', 'PCR1', 'PCR2', 'PCR8'] as const) {
    if (said[name]?.toLowerCase() !== found[name]) {
      throw new EifError(
        'EIF_READ_BACK',
        `nitro-cli says ${name} is ${said[name] ?? 'not set'}; the file that it wrote measures to ${found[name] ?? 'none'}.`,
      );
    }
  }
}

/** The end of what a program said, on one line and without anything that moves a cursor. */
function lastLines(text: string): string {
  const words = text.replace(/[\p{Cc}\s]+/gu, ' ').trim();
  return words === '' ? 'it said nothing.' : words.slice(-500);
}

async function flush(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
