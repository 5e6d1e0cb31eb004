/** Files of a trail to a report, and nothing held of a file but the record at hand. */
import type { Severity } from './codes.ts';
import { TrailError } from './errors.ts';
import { readEvent } from './event.ts';
import { findTrailFiles, trailText } from './files.ts';
import type { TrailExpectations } from './judge.ts';
import { RecordScanner } from './record-scanner.ts';
import type { TrailReport } from './report.ts';
import { TrailReview } from './review.ts';

export interface TrailOptions {
  readonly failOn: Severity;
  /** Told while reading: bytes of the files, compressed as they are. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

/**
 * Reviews every file under the paths. Faults of files and records are in the report, and reading goes on behind them;
 * throws TrailError TRAIL_EMPTY when there is nothing to read, or what the file system throws.
 */
export async function reviewTrail(
  paths: readonly string[],
  expected: TrailExpectations,
  { failOn, onProgress }: TrailOptions,
): Promise<TrailReport> {
  const files = await findTrailFiles(paths);
  const totalBytes = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const review = new TrailReview(expected);
  let doneBytes = 0;
  for (const { path } of files) {
    await readFile(path, review, (bytes) => {
      doneBytes += bytes;
      onProgress?.(doneBytes, totalBytes);
    });
  }
  return review.report(failOn);
}

async function readFile(path: string, review: TrailReview, onRead: (bytes: number) => void): Promise<void> {
  review.file();
  const scanner = new RecordScanner({
    record(raw) {
      review.record();
      try {
        const event = readEvent(raw);
        if (event !== undefined) review.event(event);
      } catch (error) {
        if (!(error instanceof TrailError)) throw error;
        review.fault(
          path,
          new TrailError(error.code, `the record at byte ${raw.offset}: ${error.message}`, error),
        );
      }
    },
    unreadable(error) {
      review.record();
      review.fault(path, error);
    },
  });
  try {
    for await (const piece of trailText(path, onRead)) scanner.push(piece);
    scanner.end();
  } catch (error) {
    if (!(error instanceof TrailError)) throw error;
    review.fault(path, error);
  }
}
