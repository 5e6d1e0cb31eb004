/**
 * Packs the client for publishing: `node scripts/client-package.ts FOLDER` leaves `strongroom-client-VERSION.tgz` there
 * and prints its path. It is built aside, so that nothing of it lies in the tree and nothing stale gets into it.
 */
import { execFile } from 'node:child_process';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '..');

/** Resolves to the path of the package in `folder`. */
export async function packClient(folder: string): Promise<string> {
  const stage = await mkdtemp(join(tmpdir(), 'strongroom-client-'));
  try {
    const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
    const project = join(ROOT, 'client', 'tsconfig.build.json');
    await run(process.execPath, [tsc, '-p', project, '--outDir', stage]);
    await writeFile(join(stage, 'package.json'), await publishedManifest());
    await writeFile(join(stage, 'README.md'), await publishedReadme());
    await copyFile(join(ROOT, 'LICENSE'), join(stage, 'LICENSE'));
    const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', resolve(folder)], {
      cwd: stage,
    });
    const [packed] = JSON.parse(stdout) as { readonly filename: string }[];
    if (packed === undefined) throw new Error('npm pack named no file');
    return join(resolve(folder), packed.filename);
  } finally {
    await rm(stage, { recursive: true });
  }
}

/** What the tree's own manifest cannot say, because these files come to be only here. */
const LAYOUT = {
  exports: {
    '.': { types: './client/index.d.ts', default: './client/index.js' },
    './package.json': './package.json',
  },
  files: ['client', 'shared'],
};

async function publishedManifest(): Promise<string> {
  const { private: _, ...manifest } = JSON.parse(
    await readFile(join(ROOT, 'client', 'package.json'), 'utf8'),
  );
  return `${JSON.stringify({ ...manifest, ...LAYOUT }, null, 2)}\n`;
}

/** The project's documents are not in the package, so a link to one becomes its name. */
async function publishedReadme(): Promise<string> {
  const readme = await readFile(join(ROOT, 'client', 'README.md'), 'utf8');
  return readme.replaceAll(/\[([^\]]*)\]\(\.\.\/([^)]*)\)/g, (_link, text: string, path: string) =>
    text === path ? `\`${path}\`` : `${text} (\`${path}\` of the project)`,
  );
}

if (import.meta.main) {
  const [folder, ...others] = process.argv.slice(2);
  if (folder === undefined || others.length > 0) {
    process.stderr.write('Usage: node scripts/client-package.ts FOLDER\n');
    process.exitCode = 2;
  } else process.stdout.write(`${await packClient(folder)}\n`);
}
