/**
 * The first thing that runs in the enclave process and in the engine's: refuses a process that was started in
 * a way that would open it up. The only file of the image that reads process.env, argv or execArgv.
 *
 * Flags and environment are allow-lists, compared whole: an inspector, a preloaded module, a diagnostic report,
 * a heap snapshot, NODE_OPTIONS, LD_PRELOAD, a proxy or an AWS_* variable are refused because they are not on
 * the list, and so is what a later Node will invent.
 */
import { url as inspectorUrl } from 'node:inspector';
import { StartError } from './errors.ts';

/**
 * The only flags with which the engine's process starts. Under load V8's young generation would grow to 128 MiB that it
 * never gives back (docs/serving.md section 10.3).
 */
export const ENGINE_NODE_FLAGS: readonly string[] = [
  '--disable-sigusr1', // SIGUSR1 would open the inspector
  '--disallow-code-generation-from-strings',
  '--disable-proto=delete',
  '--report-exclude-env',
  '--max-semi-space-size=16',
];

/**
 * The only flags with which the enclave process starts. OpenSSL keeps private keys in the secure heap, and the
 * boot has dropped keys collected at a moment of its choice (enclave/dropped-keys.ts).
 */
export const ENCLAVE_NODE_FLAGS: readonly string[] = [
  ...ENGINE_NODE_FLAGS,
  '--expose-gc',
  '--secure-heap=131072',
  '--secure-heap-min=16',
];

/**
 * The whole environment of both. Programs are started by absolute path, so nothing is looked for along PATH; it
 * is here because container builders put one into every image, and none of them can take it out again: one fixed
 * value, and images made either way start alike (docs/image.md section 9). ONNX Runtime reports home unless its
 * variable is set before its library loads, and would also keep still if CI were set, which is not on the list.
 */
export const ENCLAVE_ENVIRONMENT: Readonly<Record<string, string>> = {
  PATH: '/usr/bin',
  ORT_DISABLE_TELEMETRY: '1',
};

/** Files that Node makes are for its own user alone. */
const UMASK = 0o077;

/** For enclave/main.ts, before anything else. Throws StartError. */
export function refuseUnsafeStart(): void {
  refuseOpenProcess(ENCLAVE_NODE_FLAGS);
}

/** For the engine's process, before its engine is loaded. Throws StartError. */
export function refuseUnsafeEngineStart(): void {
  refuseOpenProcess(ENGINE_NODE_FLAGS);
}

function refuseOpenProcess(flags: readonly string[]): void {
  const unknown = process.execArgv.find((flag) => !flags.includes(flag));
  if (unknown !== undefined) throw new StartError('START_FLAGS', `unexpected flag ${nameOf(unknown)}`);
  const missing = flags.find((flag) => !process.execArgv.includes(flag));
  if (missing !== undefined) throw new StartError('START_FLAGS', `missing flag ${missing}`);

  // Names only: a value may be a secret.
  const stranger = Object.keys(process.env).find((name) => !Object.hasOwn(ENCLAVE_ENVIRONMENT, name));
  if (stranger !== undefined) throw new StartError('START_ENVIRONMENT', `unexpected variable ${stranger}`);
  for (const [name, value] of Object.entries(ENCLAVE_ENVIRONMENT)) {
    if (process.env[name] !== value) throw new StartError('START_ENVIRONMENT', `expected ${name}=${value}`);
  }

  if (inspectorUrl() !== undefined) throw new StartError('START_INSPECTOR', 'an inspector is listening');
  if (process.argv.length !== 2) throw new StartError('START_ARGUMENTS', 'expected no arguments');
  process.umask(UMASK);
}

const nameOf = (flag: string): string => flag.split('=', 1)[0] ?? '';
