/** Files of a trail to a report, and nothing held of a file but the record at hand. */
import { availableParallelism } from 'node:os';
import type { Severity } from './codes.ts';
import { findTrailFiles } from './files.ts';
import type { TrailExpectations } from './judge.ts';
import type { TrailReport } from './report.ts';
import { trailReport } from './report-of.ts';
import { TrailTally } from './tally.ts';
import { tallyFile } from './tally-file.ts';
import { tallyInThreads } from './tally-threads.ts';

/** From this size on several files are worth several threads, which take a moment to start. */
const THREADS_FROM_BYTES = 32 * 1024 * 1024;
const THREADS_MAX = 8;

export interface TrailOptions {
  readonly failOn: Severity;
  /** Told while reading: bytes of the files, compressed as they are. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  /** At most; as many as there are processors unless given. The report is the same for any number. */
  readonly threads?: number;
}

/**
 * Reviews every file under the paths. Faults of files and records are in the report, and reading goes on behind them;
 * throws TrailError TRAIL_EMPTY when there is nothing to read, or what the file system throws.
 */
export async function reviewTrail(
  paths: readonly string[],
  expected: TrailExpectations,
  { failOn, onProgress, threads }: TrailOptions,
): Promise<TrailReport> {
  const files = await findTrailFiles(paths);
  const totalBytes = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const tally = new TrailTally(expected);
  let doneBytes = 0;
  const onRead = (bytes: number) => {
    doneBytes += bytes;
    onProgress?.(doneBytes, totalBytes);
  };
  const wanted = threads ?? (totalBytes < THREADS_FROM_BYTES ? 1 : availableParallelism());
  const count = Math.min(wanted, files.length, THREADS_MAX);
  if (count > 1) await tallyInThreads(files, expected, { tally, count, onRead });
  else for (const { path } of files) await tallyFile(path, tally, onRead);
  return trailReport(tally.data, expected, failOn);
}
