/**
 * What a command of the command line is. Rules for all of them (docs/errors.md has the exit codes):
 * results go to standard output, everything meant for a person's eyes alone (progress, hints) to standard
 * error; `--json` prints exactly one JSON document; secrets are never arguments.
 */

export interface Command {
  /** Words after `strongroom`, for example `attestation verify`. */
  readonly name: string;
  /** One line for the overview. */
  readonly summary: string;
  /** The whole help text: usage, options, an example, exit codes. */
  readonly help: string;
  /** True if standard output is a log and no result: the command goes on, and succeeds, when nobody can write it. */
  readonly printsLog?: boolean;
  /** Resolves to the exit code. Errors are thrown and reported in one place. */
  run(args: readonly string[], io: CommandIo): Promise<number>;
}

export interface CommandIo {
  readonly stdin: NodeJS.ReadableStream & { readonly isTTY?: boolean };
  readonly stdout: NodeJS.WritableStream & { readonly isTTY?: boolean };
  readonly stderr: NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number };
  /** Aborted by Ctrl-C; a command cleans up and resolves or rejects soon after. */
  readonly signal: AbortSignal;
}
