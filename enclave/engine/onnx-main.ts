/**
 * The file that every engine process starts with: confined first, then the model's files are checked in
 * TypeScript, and only then is the engine imported.
 */
import { runConfined } from './launch.ts';
import { checkOnnxFiles } from './model-files.ts';

await runConfined(({ external }) => {
  checkOnnxFiles(external);
  return import('./onnx.ts');
});
