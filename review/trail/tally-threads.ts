/** Files of a trail over several threads: each takes the next file that nobody has, and gives back its tally. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { TrailFile } from './files.ts';
import type { TrailExpectations } from './judge.ts';
import type { TallyData, TrailTally } from './tally.ts';

export interface ThreadsOptions {
  /** Takes the tallies, in the order of the files, so that nobody can see how many threads there were. */
  readonly tally: TrailTally;
  readonly count: number;
  readonly onRead: (bytes: number) => void;
}

/** What a thread is given, and what it says. */
export interface FileOrder {
  readonly index: number;
  readonly path: string;
}
export type FileAnswer =
  | { readonly read: number }
  | { readonly index: number; readonly data: TallyData }
  | { readonly failed: Error; readonly code: string | undefined };

/** Throws what the file system throws, or what `onRead` throws; then every thread has ended. */
export async function tallyInThreads(
  files: readonly TrailFile[],
  expected: TrailExpectations,
  { tally, count, onRead }: ThreadsOptions,
): Promise<void> {
  const threads = Array.from(
    { length: count },
    () => new Worker(new URL('./tally-thread.ts', import.meta.url), { workerData: expected }),
  );
  try {
    await new Promise<void>((resolve, reject) => {
      const waiting = new Map<number, TallyData>();
      let given = 0;
      let taken = 0;
      const give = (thread: Worker) => {
        const file = files[given];
        if (file === undefined) return;
        thread.postMessage({ index: given, path: file.path } satisfies FileOrder);
        given++;
      };
      const take = (answer: FileAnswer, thread: Worker) => {
        if ('read' in answer) return onRead(answer.read);
        if ('failed' in answer) throw Object.assign(answer.failed, { code: answer.code });
        waiting.set(answer.index, answer.data);
        for (let data = waiting.get(taken); data !== undefined; data = waiting.get(taken)) {
          tally.add(data);
          waiting.delete(taken);
          taken++;
        }
        if (taken === files.length) resolve();
        give(thread);
      };
      for (const thread of threads) {
        thread.on('message', (answer: FileAnswer) => {
          try {
            take(answer, thread);
          } catch (error) {
            reject(error);
          }
        });
        thread.on('error', reject);
        thread.on('exit', () => reject(new Error('a thread ended before its work was done')));
        give(thread);
      }
    });
  } finally {
    await Promise.all(threads.map(end));
  }
}

async function end(thread: Worker): Promise<void> {
  if (thread.threadId === -1) return;
  const ended = once(thread, 'exit');
  await thread.terminate();
  await ended.catch(() => {});
}
