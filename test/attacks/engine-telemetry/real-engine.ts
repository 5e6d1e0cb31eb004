/** Starts the real engine, has it compute, and keeps it for a while: what reports home does so seconds later. */
import { closeSync } from 'node:fs';
import { startTensorEngine } from '../../../enclave/engine/tensor-engine.ts';
import { ENGINE_UID, externalModel, modelDescriptor } from '../../support/onnx-models.ts';

const { model, files } = externalModel();
const modelFd = modelDescriptor(model);
const external = Object.entries(files).map(([location, content]) => ({
  location,
  fd: modelDescriptor(content),
}));
const engine = await startTensorEngine({ modelFd, external, threads: 2, ...ENGINE_UID });
const data = new Uint8Array(new Float32Array(64).fill(5.1).buffer);
await engine.infer({ inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 64], data }] });
await new Promise((resolve) => setTimeout(resolve, Number(process.argv[2])));
await engine.close();
for (const fd of [modelFd, ...external.map((file) => file.fd)]) closeSync(fd);
