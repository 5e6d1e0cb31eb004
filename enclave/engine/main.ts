/** The file that every engine process starts with: confined first, and only then the engine. */
import { runConfined } from './launch.ts';

await runConfined(() => import('./onnx.ts'));
