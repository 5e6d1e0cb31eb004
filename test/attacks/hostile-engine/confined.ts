/** The hostile engine where the real one would be: enclave/engine/onnx-main.ts with another import. */
import { runConfined } from '../../../enclave/engine/launch.ts';

await runConfined(() => import('./engine.ts'));
