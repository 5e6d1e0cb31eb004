/** One line of JSON on the console for each check; the driver on the host reads them. */

export interface CheckResult {
  readonly check: string;
  readonly passed: boolean;
  readonly durationMs: number;
  /** What was measured, or what went wrong. */
  readonly detail: string;
}

const CHECK_TIMEOUT_MS = 120_000;
let failed = 0;

/** Runs one check: `run` throws for a broken promise, and may say what it has measured. */
export async function check(name: string, run: () => Promise<string | undefined>): Promise<void> {
  const begin = performance.now();
  let passed = true;
  let detail: string;
  try {
    detail = (await withDeadline(run())) ?? '';
  } catch (error) {
    passed = false;
    failed += 1;
    detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  const result: CheckResult = {
    check: name,
    passed,
    durationMs: Math.round(performance.now() - begin),
    detail,
  };
  console.log(JSON.stringify(result));
}

export function failedChecks(): number {
  return failed;
}

async function withDeadline<T>(work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`not done in ${CHECK_TIMEOUT_MS} ms`)), CHECK_TIMEOUT_MS);
  try {
    return await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** The code of the error that `work` must end with. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
  return 'no error';
}
