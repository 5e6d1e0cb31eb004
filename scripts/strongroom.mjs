#!/usr/bin/env node
// The command's entry: finds the pinned Node and runs the TypeScript with it. It must itself run on any Node.
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const main = join(dirname(fileURLToPath(import.meta.url)), 'strongroom.ts');

function pinnedNode() {
  const require = createRequire(import.meta.url);
  try {
    return join(dirname(require.resolve(`node-linux-${process.arch}/package.json`)), 'bin', 'node');
  } catch {
    return Number(process.versions.node.split('.')[0]) >= 24 ? process.execPath : undefined;
  }
}

const node = pinnedNode();
if (node === undefined) {
  process.stderr.write(
    'strongroom: needs Node 24. Run "npm ci" in the project; it brings the pinned Node.\n',
  );
  process.exit(2);
}
const child = spawn(node, [main, ...process.argv.slice(2)], { stdio: 'inherit' });
// A terminal signals the whole group; a supervisor signals this process alone.
process.on('SIGINT', () => {});
for (const signal of ['SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR2'])
  process.on(signal, () => child.kill(signal));
child.on('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
