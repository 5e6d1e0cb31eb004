/**
 * Running a command with an opened model, for owners who serve outside an enclave. The weights stand in unlinked files
 * on a tmpfs and nowhere else; the command is given paths to them.
 */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { writeSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { openSealedModel } from '../shared/sealed-model/open.ts';
import { fileSource } from '../shared/sealed-model/source.ts';
import { OwnerError } from './errors.ts';
import { openLegacyFile } from './legacy/legacy-file.ts';
import { type LegacyKey, verifyLegacyFile } from './legacy/unlock.ts';
import { type MeasureRoom, MemoryFiles } from './memory-files.ts';
import { withSealedFolder } from './model-key.ts';
import { fileOf, type OpenSealed } from './open-model.ts';

/** A model in memory; disposing of it closes the files, which the kernel then frees unless others have them open. */
export interface InMemory extends Disposable {
  readonly files: readonly { readonly path: string; readonly place: string }[];
}

export interface Room {
  /** A tmpfs; /dev/shm if left out. */
  readonly folder?: string;
  readonly measure?: MeasureRoom;
}

/** Strictly, as an enclave would. Throws as `openToFolder`, and OWNER_NO_ROOM, OWNER_NOT_MEMORY. */
export async function openToMemory(request: OpenSealed, room: Room = {}): Promise<InMemory> {
  const { sealed, key, signal, onProgress } = request;
  return withSealedFolder(sealed, key, request, async (unlocked) => {
    const { head } = unlocked;
    await using source = await fileSource(join(sealed, 'payload'));
    const memory = await MemoryFiles.create(
      head.files.map(({ sizeBytes }) => sizeBytes),
      room,
    );
    return await filled(memory, head.files, () =>
      openSealedModel(
        unlocked,
        source,
        { kind: 'files', fds: memory.fds },
        {
          ...(signal === undefined ? {} : { signal }),
          onProgress: (openedBytes) => onProgress?.(openedBytes, head.payloadSizeBytes),
        },
      ),
    );
  });
}

/** The whole is checked before the first byte is written. Throws LegacyError, OWNER_NO_ROOM, OWNER_NOT_MEMORY. */
export async function openLegacyToMemory(
  path: string,
  key: LegacyKey,
  { signal, onProgress }: Pick<OpenSealed, 'signal' | 'onProgress'> = {},
  room: Room = {},
): Promise<InMemory> {
  await using file = await openLegacyFile(path);
  const observe = { signal, onProgress };
  const memory = await MemoryFiles.create([file.message.sizeBytes], room);
  return await filled(memory, [{ path }], async () => {
    const verified = await verifyLegacyFile(file, key, observe);
    const target = memory.fds[0] as number;
    let written = 0;
    for await (const piece of verified.plaintext(observe)) {
      writeWhole(target, written, piece);
      written += piece.length;
    }
  });
}

async function filled(
  memory: MemoryFiles,
  files: readonly { readonly path: string }[],
  fill: () => Promise<void>,
): Promise<InMemory> {
  try {
    await fill();
    memory.makeReadOnly();
  } catch (error) {
    memory[Symbol.dispose]();
    throw error;
  }
  return {
    files: files.map(({ path }, index) => ({ path, place: memory.pathOf(index) })),
    [Symbol.dispose]: () => memory[Symbol.dispose](),
  };
}

function writeWhole(fd: number, offsetBytes: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) {
    done += writeSync(fd, bytes, done, bytes.length - done, offsetBytes + done);
  }
}

const PLACEHOLDER = /\{file(?::([^}]+))?\}/g;

export function hasPlaceholder(args: readonly string[]): boolean {
  return args.some((arg) => new RegExp(PLACEHOLDER).test(arg));
}

/** `{file}` is the only file, `{file:NAME}` a named one. Throws OWNER_NO_SUCH_FILE. */
export function withPlaces(args: readonly string[], model: Pick<InMemory, 'files'>): string[] {
  return args.map((arg) =>
    arg.replaceAll(PLACEHOLDER, (_all, name: string | undefined) => fileOf(model, name).place),
  );
}

/** Sent on to the command: to this process they say what is meant for it. */
const FORWARDED = ['SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR2', 'SIGWINCH', 'SIGCONT'] as const;

export interface RunCommand {
  readonly command: readonly string[];
  /** A terminal sends Ctrl-C to the command itself, as to all that run in its foreground; a second one would be too many. */
  readonly interruptToo: boolean;
  readonly stdio?: SpawnOptions['stdio'];
  /** Where signals come from: the process. */
  readonly signals: Pick<NodeJS.Process, 'on' | 'removeListener'>;
}

/** Resolves to the exit code: the command's, or 128 + N if signal N ended it. Throws OWNER_COMMAND_NOT_STARTED. */
export async function runCommand({ command, interruptToo, stdio, signals }: RunCommand): Promise<number> {
  const [name = '', ...args] = command;
  let child: ChildProcess | undefined;
  const forward = (signal: NodeJS.Signals): void => void child?.kill(signal);
  const noted = (): void => {}; // the command decides what Ctrl-C means, not the default of this process
  // Before it starts: a signal that came in between would end this process by default, and leave the command behind.
  for (const signal of FORWARDED) signals.on(signal, forward);
  signals.on('SIGINT', interruptToo ? forward : noted);
  try {
    const started = spawn(name, args, { stdio: stdio ?? 'inherit' });
    child = started;
    return await new Promise<number>((resolve, reject) => {
      started.once('error', (cause) => reject(notStarted(name, cause)));
      started.once('exit', (code, signal) =>
        resolve(code ?? 128 + constants.signals[signal as NodeJS.Signals]),
      );
    });
  } finally {
    for (const signal of FORWARDED) signals.removeListener(signal, forward);
    signals.removeListener('SIGINT', interruptToo ? forward : noted);
  }
}

function notStarted(name: string, cause: Error): OwnerError {
  return new OwnerError(
    'OWNER_COMMAND_NOT_STARTED',
    `${name} could not be started: ${cause.message}.`,
    cause,
  );
}
