#!/usr/bin/env node
// The command's entry: finds the pinned Node and runs the TypeScript with it. It must itself run on any Node.
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const main = join(here, 'strongroom.ts');

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
process.on('SIGINT', () => {});
process.on('SIGTERM', () => {});
const { status, signal } = spawnSync(node, [main, ...process.argv.slice(2)], { stdio: 'inherit' });
process.exit(status ?? (signal === null ? 1 : 130));
