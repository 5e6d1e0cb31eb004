/**
 * The file that the process of every text engine starts with: confined first, then the model's file is checked in
 * TypeScript, and only then is the engine imported.
 */
import { runConfined } from './launch.ts';
import { checkGgufModel } from './model-files.ts';

await runConfined(async ({ external }) => {
  const file = checkGgufModel(external);
  const { run } = await import('./llama/run.ts');
  return { run: (start) => run(start, file) };
});
