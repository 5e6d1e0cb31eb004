/**
 * nitro-cli, as its documentation says it speaks (AWS Nitro Enclaves User Guide, "nitro-cli run-enclave",
 * "describe-enclaves", "terminate-enclave"): one JSON document on standard output, messages on standard error,
 * and an exit status that is the number of an error code.
 *
 * It starts a process of its own for each enclave, which holds the enclave's memory and CPUs, waits for its sign
 * of life on vsock port 9000 and answers it, and ends with the enclave. So an enclave outlives both nitro-cli and
 * this parent, and nobody else may listen on that port meanwhile.
 */
import { type JsonValue, parseStrictJson } from '../../shared/json.ts';
import { explainNitroError, explainNitroExit } from './error-codes.ts';
import { NitroError } from './errors.ts';
import { heartbeatTimeoutMs } from './heartbeat.ts';
import { type ProgramEnd, runProgram } from './program.ts';

export interface EnclaveSpec {
  readonly name: string;
  readonly image: string;
  readonly imageSizeBytes: number;
  readonly cpuCount: number;
  readonly memoryMib: number;
  /** Undefined lets nitro-cli choose. */
  readonly cid: number | undefined;
}

export interface StartedEnclave {
  readonly name: string;
  readonly id: string;
  readonly cid: number;
}

export interface DescribedEnclave extends StartedEnclave {
  /** `RUNNING` or `TERMINATING`. */
  readonly state: string;
  /** `NONE`, or `DEBUG_MODE`. */
  readonly flags: string;
  /** What nitro-cli measured of the file; for an enclave in debug mode the registers are zero all the same. */
  readonly pcr0: string | undefined;
}

export interface NitroCli {
  /** Resolves when the enclave has given its sign of life. An abort may leave an enclave of that name. */
  run(spec: EnclaveSpec, signal: AbortSignal): Promise<StartedEnclave>;
  /**
   * `complete` is false when nitro-cli could not ask all of them: who is not listed may still be there. Patience
   * beyond the usual is for an enclave whose image nitro-cli is still measuring.
   */
  describe(patienceMs?: number): Promise<{
    readonly enclaves: readonly DescribedEnclave[];
    readonly complete: boolean;
  }>;
  terminate(id: string): Promise<void>;
}

/** Memory is taken page by page before the enclave starts. */
const ALLOCATION_MS_PER_GIB = 2_000;
const COMMAND_TIMEOUT_MS = 60_000;
/** A run-enclave that is killed may leave an enclave that does not answer yet; most end in time by themselves. */
const ABORT_GRACE_MS = 20_000;
const ENCLAVES_MAX = 64;

export interface NitroCliLimits {
  /** For every command, in place of what suits each. */
  readonly timeoutMs?: number;
  readonly abortGraceMs?: number;
}

export function nitroCli(program: string, options: NitroCliLimits = {}): NitroCli {
  const timeoutMs = options.timeoutMs ?? COMMAND_TIMEOUT_MS;
  return {
    run: async (spec, signal) => {
      const deadlineMs =
        heartbeatTimeoutMs(spec.imageSizeBytes, spec.memoryMib) +
        Math.ceil(spec.memoryMib / 1024) * ALLOCATION_MS_PER_GIB +
        timeoutMs;
      const end = await runProgram(program, runArguments(spec), {
        timeoutMs: options.timeoutMs ?? deadlineMs,
        signal,
        abortGraceMs: options.abortGraceMs ?? ABORT_GRACE_MS,
      });
      if (end.status !== 0) throw failed('run-enclave', end);
      return started(members(json('run-enclave', end), 'run-enclave'), 'run-enclave');
    },
    describe: async (patienceMs = 0) => {
      const end = await runProgram(program, ['describe-enclaves'], { timeoutMs: timeoutMs + patienceMs });
      // With one enclave out of reach it lists the others and fails (src/enclave_proc_comm.rs).
      if (end.status !== 0 && end.stdout.length === 0) throw failed('describe-enclaves', end);
      const list = json('describe-enclaves', end);
      if (!Array.isArray(list) || list.length > ENCLAVES_MAX) {
        throw unreadable('describe-enclaves', `a list of at most ${ENCLAVES_MAX}`, list);
      }
      return { enclaves: list.map(described), complete: end.status === 0 };
    },
    terminate: async (id) => {
      const end = await runProgram(program, ['terminate-enclave', '--enclave-id', id], { timeoutMs });
      if (end.status !== 0) throw failed('terminate-enclave', end);
      const answer = members(json('terminate-enclave', end), 'terminate-enclave');
      if (answer.Terminated !== true) {
        throw unreadable('terminate-enclave', '"Terminated": true', answer.Terminated);
      }
    },
  };
}

function runArguments(spec: EnclaveSpec): readonly string[] {
  const cid = spec.cid === undefined ? [] : ['--enclave-cid', String(spec.cid)];
  return [
    'run-enclave',
    ...['--enclave-name', spec.name],
    ...['--cpu-count', String(spec.cpuCount)],
    ...['--memory', String(spec.memoryMib)],
    ...['--eif-path', spec.image],
    ...cid,
  ];
}

/** Members that are not needed are not looked at: releases of nitro-cli have added some. */
function started(answer: Members, command: string): StartedEnclave {
  return {
    name: text(answer, 'EnclaveName', command),
    id: text(answer, 'EnclaveID', command),
    cid: number(answer, 'EnclaveCID', command),
  };
}

function described(value: JsonValue): DescribedEnclave {
  const command = 'describe-enclaves';
  const answer = members(value, command);
  const measurements = answer.Measurements;
  const pcr0 = measurements === undefined ? undefined : members(measurements, command).PCR0;
  return {
    ...started(answer, command),
    state: text(answer, 'State', command).toUpperCase(),
    flags: text(answer, 'Flags', command).toUpperCase(),
    pcr0: typeof pcr0 === 'string' && /^[0-9a-fA-F]{96}$/.test(pcr0) ? pcr0.toLowerCase() : undefined,
  };
}

type Members = { readonly [name: string]: JsonValue };

function json(command: string, { stdout }: ProgramEnd): JsonValue {
  try {
    return parseStrictJson(stdout, { maxBytes: 256 * 1024, maxDepth: 16 }).value;
  } catch (cause) {
    const shown = JSON.stringify(Buffer.from(stdout).toString('utf8').slice(0, 200));
    throw new NitroError(
      'NITRO_CLI_UNREADABLE',
      `nitro-cli ${command}: expected one JSON document on standard output, found ${shown}.`,
      cause,
    );
  }
}

function members(value: JsonValue, command: string): Members {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw unreadable(command, 'an object', value);
  }
  return value as Members;
}

function text(answer: Members, name: string, command: string): string {
  const value = answer[name];
  if (typeof value !== 'string' || value === '' || value.length > 256) {
    throw unreadable(command, `a text as ${name}`, value);
  }
  return value;
}

function number(answer: Members, name: string, command: string): number {
  const value = answer[name];
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw unreadable(command, `a number as ${name}`, value);
  }
  return value;
}

function unreadable(command: string, expected: string, found: JsonValue | undefined): NitroError {
  const shown = found === undefined ? 'nothing' : JSON.stringify(found).slice(0, 120);
  return new NitroError(
    'NITRO_CLI_UNREADABLE',
    `nitro-cli ${command}: expected ${expected}, found ${shown}.`,
  );
}

function failed(command: string, { status, stderr }: ProgramEnd): NitroError {
  const explained =
    explainNitroError(stderr) ?? (status === undefined ? undefined : explainNitroExit(status));
  const how = status === undefined ? 'was killed' : `failed with status ${status}`;
  const why =
    explained === undefined
      ? `It said: ${stderr.trim().slice(-500) || 'nothing'}`
      : `${explained.code}: ${explained.means} ${explained.action}`;
  return new NitroError('NITRO_CLI_FAILED', `nitro-cli ${command} ${how}. ${why}`);
}
