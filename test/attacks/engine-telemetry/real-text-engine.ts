/** Starts the real text engine, has it generate and embed, and keeps it for a while. */
import { closeSync } from 'node:fs';
import { startTextEngine } from '../../../enclave/engine/text-engine.ts';
import { ENGINE_UID, modelDescriptor } from '../../support/onnx-models.ts';
import { tinyLlama } from '../../support/text-models.ts';

const modelFd = modelDescriptor(tinyLlama());
const engine = await startTextEngine({ modelFd, threads: 2, ...ENGINE_UID });
const { signal } = new AbortController();
const messages = [{ role: 'user', content: 'the water' }] as const;
for await (const _ of engine.generate({ prompt: { kind: 'chat', messages }, maxTokens: 50 }, signal));
await engine.embed(['the water'], signal);
await new Promise((resolve) => setTimeout(resolve, Number(process.argv[2])));
await engine.close();
closeSync(modelFd);
