/**
 * Property tests try the same inputs in every run, so that a failure is one of the change that is tested.
 * STRONGROOM_SEED=random (or a number) tries others; a failure then prints the seed that repeats it.
 */
import { configureGlobal } from 'fast-check';

const { STRONGROOM_SEED = '20260101' } = process.env;
if (STRONGROOM_SEED !== 'random') configureGlobal({ seed: Number(STRONGROOM_SEED) });
