/** The hostile engine with nothing to hold it. */
import { readFrameSync } from '../../../enclave/engine/frames.ts';
import { run } from './engine.ts';

readFrameSync(3);
await run();
