#!/usr/bin/env node
// The command's entry: finds the pinned Node and runs the TypeScript with it. It must itself run on any Node.
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const main = join(dirname(fileURLToPath(import.meta.url)), 'strongroom.ts');

/** What runs the command, as far as it goes before the command's own arguments. */
function pinnedNode() {
  const require = createRequire(import.meta.url);
  try {
    const node = join(dirname(require.resolve(`node-linux-${process.arch}/package.json`)), 'bin', 'node');
    // It strips the types with a WebAssembly module, which V8 would optimise for longer than a short command runs.
    return [node, '--liftoff-only'];
  } catch {
    return Number(process.versions.node.split('.')[0]) >= 24 ? [process.execPath] : undefined;
  }
}

const node = pinnedNode();
if (node === undefined) {
  process.stderr.write(
    'strongroom: needs Node 24. Run "npm ci" in the project; it brings the pinned Node.\n',
  );
  process.exit(2);
}
const [command, ...flags] = node;
const child = spawn(command, [...flags, main, ...process.argv.slice(2)], { stdio: 'inherit' });
// A terminal signals the whole group; a supervisor signals this process alone.
process.on('SIGINT', () => {});
for (const signal of ['SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR2'])
  process.on(signal, () => child.kill(signal));
child.on('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
