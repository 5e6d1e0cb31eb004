/** The thread of a ThreadHashLane: hashes slabs in the order in which it is given them. */
import { createHash } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import type { LaneAnswer, LaneOrder } from './hash-lane.ts';

const slabs = workerData as readonly Uint8Array[];
const hash = createHash('sha384');
const answer = (message: LaneAnswer) => parentPort?.postMessage(message);

parentPort?.on('message', (order: LaneOrder) => {
  if (order === 'digest') {
    answer({ digest: new Uint8Array(hash.copy().digest()) });
  } else {
    hash.update((slabs[order.slab] as Uint8Array).subarray(0, order.sizeBytes));
    answer({ hashed: order.slab });
  }
});
