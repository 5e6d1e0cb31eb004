/**
 * The ONNX engine: loads the one model it was given and answers, one question at a time. ONNX Runtime's Node
 * binding works synchronously under its promises, and this process has nothing else to do.
 */
import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { mapFile } from '../native/memory-map.ts';
import { FIRST_EXTERNAL_DESCRIPTOR, MODEL_DESCRIPTOR } from './channel.ts';
import type { StartMessage } from './messages.ts';
import { readTokenizerFiles } from './model-files.ts';
import { OnnxText } from './onnx-text/onnx-text.ts';
import { fromOrtTensor, fromOrtType, toOrtTensor } from './ort-tensors.ts';
import type { Tensor, TensorMetadata } from './tensor.ts';
import { openTensorChannel } from './tensor-channel.ts';

/** Only fatal errors, which go nowhere anyway: the engine's output is closed. */
const LOG_SEVERITY_FATAL = 4;

export async function run(options: StartMessage): Promise<void> {
  const channel = openTensorChannel();
  // The binding knows Float16Array as no typed array and would see empty tensors; without it, its JavaScript
  // falls back to Uint16Array, which both halves understand.
  Reflect.deleteProperty(globalThis, 'Float16Array');
  const session = await InferenceSession.create(`/proc/self/fd/${MODEL_DESCRIPTOR}`, {
    executionProviders: ['cpu'],
    executionMode: 'sequential',
    intraOpNumThreads: options.threads,
    interOpNumThreads: 1,
    logSeverityLevel: LOG_SEVERITY_FATAL,
    // By name from memory: the runtime opens no file but the one above, and none of these ever has a path.
    ...(options.external.length === 0 ? {} : { externalData: options.external.map(mapped) }),
    extra: {
      session: {
        // A second, rearranged copy of the weights costs their size again and gains nothing measurable.
        disable_prepacking: '1',
        // Threads that spin between operators take the core that Node and TLS need.
        intra_op: { allow_spinning: '0' },
      },
    },
  });
  const metadata = {
    inputs: session.inputMetadata.map(describe),
    outputs: session.outputMetadata.map(describe),
  };
  const texts =
    options.tokenizer.length === 0
      ? undefined
      : new OnnxText(readTokenizerFiles(options.tokenizer, options.external.length), metadata);
  channel.ready(texts?.metadata ?? metadata);

  for (let question = channel.next(); question !== undefined; question = channel.next()) {
    try {
      const { inputs, outputs } = question;
      channel.result(
        texts === undefined
          ? await infer(session, inputs, outputs)
          : await texts.infer(inputs, outputs, (...tensors) => infer(session, ...tensors)),
      );
    } catch (error) {
      channel.rejected(error instanceof Error ? error.message : 'unknown error');
    }
  }
}

async function infer(
  session: InferenceSession,
  inputs: readonly Tensor[],
  outputs: readonly string[],
): Promise<Tensor[]> {
  const feeds: Record<string, OrtTensor> = Object.create(null);
  for (const input of inputs) feeds[input.name] = toOrtTensor(input);
  const results = await session.run(feeds, outputs);
  return outputs.map((name) => {
    const result = results[name];
    if (!(result instanceof OrtTensor)) throw new TypeError(`the model gave no tensor for ${name}`);
    return fromOrtTensor(name, result);
  });
}

function mapped(location: string, index: number): { path: string; data: Uint8Array } {
  return { path: location, data: mapFile(FIRST_EXTERNAL_DESCRIPTOR + index) };
}

function describe(metadata: InferenceSession.ValueMetadata): TensorMetadata {
  if (!metadata.isTensor) throw new TypeError(`${metadata.name} is not a tensor: only tensors are served`);
  return {
    name: metadata.name,
    datatype: fromOrtType(metadata.type),
    shape: metadata.shape.map((size) => (typeof size === 'number' ? size : -1)),
  };
}
