/** ONNX Runtime as it comes: the same model, no confinement, and telemetry as the environment says. */
import { InferenceSession } from 'onnxruntime-node';
import { classifierModel } from '../../support/onnx-models.ts';

await InferenceSession.create(classifierModel());
await new Promise((resolve) => setTimeout(resolve, Number(process.argv[2])));
