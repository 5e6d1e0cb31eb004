/** Starts the real engine, has it compute, and keeps it for a while: what reports home does so seconds later. */
import { closeSync } from 'node:fs';
import { startEngine } from '../../../enclave/engine/supervisor.ts';
import { classifierModel, ENGINE_UID, modelDescriptor } from '../../support/onnx-models.ts';

const modelFd = modelDescriptor(classifierModel());
const engine = await startEngine({ modelFd, threads: 2, ...ENGINE_UID });
const data = new Uint8Array(Float32Array.of(5.1, 3.5, 1.4, 0.2).buffer);
await engine.infer({ inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 4], data }] });
await new Promise((resolve) => setTimeout(resolve, Number(process.argv[2])));
await engine.close();
closeSync(modelFd);
