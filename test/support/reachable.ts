/**
 * Engines run under a user of their own when root starts them, and that user must be able to read the code. In
 * a checkout that only root may enter (/root, a folder of mktemp) tests use a copy of what an engine needs.
 */
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterAll } from 'vitest';

const PROJECT = join(import.meta.dirname, '..', '..');
const SOURCES = ['package.json', 'enclave', 'shared', 'link', 'scripts', 'test'];
const PACKAGES = ['koffi', '@koromix', '@node-llama-cpp', 'onnxruntime-node', 'onnxruntime-common'];
const OTHER_PLATFORMS = new Set(['darwin', 'win32']);

/**
 * The project's folder, or a copy of it that any user may read; removed after the tests of the file. From then
 * on `process.execPath`, with which engines are started, is a Node that any user may run.
 */
export function reachableProject(): string {
  if (process.getuid?.() !== 0 || (otherUsersMayRead(process.execPath) && otherUsersMayRead(PROJECT)))
    return PROJECT;
  const copy = mkdtempSync(join(tmpdir(), 'strongroom-reachable-'));
  afterAll(() => rmSync(copy, { recursive: true, force: true }));
  chmodSync(copy, 0o755);
  for (const source of SOURCES) cpSync(join(PROJECT, source), join(copy, source), { recursive: true });
  mkdirSync(join(copy, 'node_modules'));
  for (const name of PACKAGES) {
    cpSync(join(PROJECT, 'node_modules', name), join(copy, 'node_modules', name), {
      recursive: true,
      filter: (path) => !OTHER_PLATFORMS.has(basename(path)),
    });
  }
  const node = join(copy, 'node');
  cpSync(process.execPath, node, { dereference: true });
  chmodSync(node, 0o755);
  process.execPath = node;
  return copy;
}

/** Readable itself, below folders that everybody may pass. */
function otherUsersMayRead(path: string): boolean {
  if (!existsSync(path) || (statSync(path).mode & 0o004) === 0) return false;
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    if ((statSync(folder).mode & 0o001) === 0) return false;
    if (folder === dirname(folder)) return true;
  }
}
