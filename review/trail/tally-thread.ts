/** The thread of tallyInThreads: one file after the other, each with a tally of its own. */
import { parentPort, workerData } from 'node:worker_threads';
import type { TrailExpectations } from './judge.ts';
import { TrailTally } from './tally.ts';
import { tallyFile } from './tally-file.ts';
import type { FileAnswer, FileOrder } from './tally-threads.ts';

const expected = workerData as TrailExpectations;
const answer = (message: FileAnswer) => parentPort?.postMessage(message);

parentPort?.on('message', async ({ index, path }: FileOrder) => {
  const tally = new TrailTally(expected);
  try {
    await tallyFile(path, tally, (read) => answer({ read }));
    answer({ index, data: tally.data });
  } catch (error) {
    const failed = error instanceof Error ? error : new Error(String(error));
    answer({ failed, code: (failed as NodeJS.ErrnoException).code });
  }
});
