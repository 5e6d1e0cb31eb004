/**
 * The one error class that everything in Strongroom throws.
 *
 * Each area keeps a table of its causes beside its code (`errors.ts`) and a subclass typed by that table, so
 * that a `switch` on `code` narrows and docs/errors.md can be checked against the code. Messages say what was
 * expected and what was found; `action` (from the table) says what to do next.
 */

/** Exit codes of the command line (docs/errors.md): 1 refused or findings, 2 unusable input, 3 cannot decide. */
export type ExitCode = 1 | 2 | 3;

export interface ErrorEntry {
  readonly exit: ExitCode;
  /** One sentence: what this cause means. */
  readonly means: string;
  /** One sentence: what the reader should do next. */
  readonly action: string;
}

export type ErrorTable = Readonly<Record<string, ErrorEntry>>;

export abstract class StrongroomError<Code extends string = string> extends Error {
  readonly code: Code;
  readonly exitCode: ExitCode;
  readonly action: string;

  protected constructor(
    table: Readonly<Record<Code, ErrorEntry>>,
    code: Code,
    message: string,
    cause?: unknown,
  ) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.code = code;
    this.exitCode = table[code].exit;
    this.action = table[code].action;
  }
}

/** The error's stable code, or undefined for an error that is not ours. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof StrongroomError ? error.code : undefined;
}
