/** The same change for many models: some at a time, each on its own, and any of them done again without harm. */
import { lstat, readdir, realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { codeOf, StrongroomError } from '../../shared/errors.ts';
import { OwnerError } from '../errors.ts';
import { type Rewrap, type RewrapResult, rewrapModel } from './rewrap.ts';
import type { SealedPlace } from './sealed-place.ts';

export type RewrapReport =
  | ({ readonly outcome: 'done' | 'current' } & RewrapResult)
  | {
      readonly outcome: 'refused' | 'unreachable' | 'not-reached';
      readonly folder: string;
      readonly error: { readonly code: string; readonly message: string; readonly action: string };
    };

/**
 * Every sealed model below each folder, or below those that begin with a prefix (`models/iris-`), by path, and none twice.
 * What lies inside a sealed model, hidden folders and symbolic links are not looked at. Throws OWNER_MODEL_UNKNOWN if a
 * prefix has none.
 */
export async function findSealedModels(prefixes: readonly string[]): Promise<readonly string[]> {
  const found = await Promise.all(prefixes.map(sealedUnder));
  return withoutRepeats(found.flat());
}

async function sealedUnder(prefix: string): Promise<readonly string[]> {
  const status = await lstat(prefix).catch(() => undefined);
  const roots = status?.isDirectory() === true ? [prefix] : await beginningWith(prefix);
  const found = (await Promise.all(roots.map(sealedBelow))).flat();
  if (found.length > 0) return found.sort();
  throw new OwnerError('OWNER_MODEL_UNKNOWN', `There is no sealed model at or below ${prefix}.`);
}

async function beginningWith(prefix: string): Promise<string[]> {
  const folder = dirname(prefix);
  const entries = await readdir(folder, { withFileTypes: true });
  return entries
    .filter((entry) => entry.isDirectory() && entry.name.startsWith(basename(prefix)))
    .map(({ name }) => join(folder, name));
}

async function sealedBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  if (entries.some((entry) => entry.isFile() && entry.name === 'head')) return [folder];
  const below = entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'));
  return (await Promise.all(below.map(({ name }) => sealedBelow(join(folder, name))))).flat();
}

/** Resolves to a report in the order of the places, whatever becomes of single ones. */
export async function rewrapAll(
  places: readonly SealedPlace[],
  requestOf: (place: SealedPlace) => Rewrap,
  {
    atOnce,
    onReport,
  }: { readonly atOnce: number; readonly onReport?: (report: RewrapReport, doneCount: number) => void },
): Promise<readonly RewrapReport[]> {
  const queue = [...places.entries()];
  const reports: RewrapReport[] = [];
  let doneCount = 0;
  const work = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const [index, place] = next;
      const report = await reportOn(requestOf(place));
      reports[index] = report;
      onReport?.(report, ++doneCount);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  return reports;
}

async function reportOn(request: Rewrap): Promise<RewrapReport> {
  const folder = request.place.name;
  if (request.signal?.aborted === true) {
    return {
      outcome: 'not-reached',
      folder,
      error: { code: 'INTERRUPTED', message: 'Stopped before its turn.', action: 'Run the command again.' },
    };
  }
  try {
    const result = await rewrapModel(request);
    return { outcome: result.changed ? 'done' : 'current', ...result };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const known = error instanceof StrongroomError ? error : undefined;
    return {
      outcome: known?.exitCode === 3 ? 'unreachable' : 'refused',
      folder,
      error: {
        code: codeOf(error) ?? 'UNEXPECTED',
        message,
        action: known?.action ?? 'Run it for this model alone.',
      },
    };
  }
}

/** One folder under two names would be two writers of one key.json. */
async function withoutRepeats(folders: readonly string[]): Promise<readonly string[]> {
  const seen = new Set<string>();
  const kept: string[] = [];
  for (const folder of folders) {
    const real = await realpath(folder).catch(() => folder);
    if (!seen.has(real)) kept.push(folder);
    seen.add(real);
  }
  return kept;
}
