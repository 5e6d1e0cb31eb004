/** ONNX Runtime as it comes: the same model, no confinement, and telemetry as the environment says. */
import { createRequire } from 'node:module';
import { classifierModel } from '../../support/onnx-models.ts';

// The enclave's dependency, not the test's.
const require = createRequire(new URL('../../../enclave/package.json', import.meta.url));
const { InferenceSession } = require('onnxruntime-node');

await InferenceSession.create(classifierModel());
await new Promise((resolve) => setTimeout(resolve, Number(process.argv[2])));
