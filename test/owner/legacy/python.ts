/**
 * Real Python for the tests: one process answers a batch of requests. Tests that need it skip aloud where it is
 * missing (Debian: apt-get install python3 python3-cryptography).
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, it } from 'vitest';

// Debian's own first: the one that its python3-cryptography belongs to.
const CANDIDATES = ['/usr/bin/python3', 'python3'];

function pythonWith(module: string): string | undefined {
  return CANDIDATES.find((python) => spawnSync(python, ['-c', `import ${module}`]).status === 0);
}

/** Defines the tests with a function that asks `script`, or one skipped test that says what is missing. */
export function describeWithPython(
  name: string,
  needs: { readonly script: string; readonly module: string; readonly debian: string },
  define: (ask: (requests: readonly unknown[]) => Record<string, string>[]) => void,
): void {
  const python = pythonWith(needs.module);
  if (python === undefined) {
    describe(name, () => it.skip(`needs Python: apt-get install ${needs.debian}`));
    return;
  }
  const ask = (requests: readonly unknown[]): Record<string, string>[] => {
    const input = requests.map((request) => `${JSON.stringify(request)}\n`).join('');
    const script = join(import.meta.dirname, needs.script);
    const options = { input, maxBuffer: 1 << 30, encoding: 'utf8' } as const;
    const { status, stdout, stderr } = spawnSync(python, [script], options);
    if (status !== 0) throw new Error(`${script} failed: ${stderr}`);
    return stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
  };
  describe(name, () => define(ask));
}
