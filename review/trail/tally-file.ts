/** One file of a trail, counted record by record. */
import { TrailError } from './errors.ts';
import { readEvent } from './event.ts';
import { trailText } from './files.ts';
import { RecordScanner } from './record-scanner.ts';
import type { TrailTally } from './tally.ts';

/** Faults of the file are counted too; throws what the file system throws. */
export async function tallyFile(
  path: string,
  tally: TrailTally,
  onRead: (bytes: number) => void,
): Promise<void> {
  tally.file();
  const scanner = new RecordScanner({
    record(raw) {
      tally.record();
      try {
        const event = readEvent(raw);
        if (event !== undefined) tally.event(event);
      } catch (error) {
        if (!(error instanceof TrailError)) throw error;
        const where = `the record at byte ${raw.offset}: ${error.message}`;
        tally.fault(path, new TrailError(error.code, where, error));
      }
    },
    unreadable(error) {
      tally.record();
      tally.fault(path, error);
    },
  });
  try {
    for await (const piece of trailText(path, onRead)) scanner.push(piece);
    scanner.end();
  } catch (error) {
    if (!(error instanceof TrailError)) throw error;
    tally.fault(path, error);
  }
}
