/** The engine's end of the channel to its supervisor: read a question, write an answer. */
import { readFrameSync, writeFrameSync } from './frames.ts';
import { type InferMessage, packTensors, readInfer } from './messages.ts';
import type { ModelMetadata, Tensor } from './tensor.ts';

/** Where the supervisor puts the channel and the model: descriptors inherited at the spawn. */
export const CHANNEL_DESCRIPTOR = 3;
export const MODEL_DESCRIPTOR = 4;
/** Of the first of the model's other files; the rest follow. */
export const FIRST_EXTERNAL_DESCRIPTOR = 5;

export interface EngineChannel {
  ready(metadata: ModelMetadata): void;
  /** The next question; undefined when the supervisor has closed. */
  next(): InferMessage | undefined;
  result(outputs: readonly Tensor[]): void;
  rejected(message: string): void;
  failed(message: string): void;
}

export function openChannel(): EngineChannel {
  const say = (header: object, body: readonly Uint8Array[] = []): void =>
    writeFrameSync(CHANNEL_DESCRIPTOR, header, body);
  return {
    ready: ({ inputs, outputs }) => say({ kind: 'ready', inputs, outputs }),
    next: () => {
      const frame = readFrameSync(CHANNEL_DESCRIPTOR);
      return frame === undefined ? undefined : readInfer(frame);
    },
    result: (outputs) => {
      const { heads, body } = packTensors(outputs);
      say({ kind: 'result', outputs: heads }, body);
    },
    rejected: (message) => say({ kind: 'rejected', message }),
    failed: (message) => say({ kind: 'failed', message }),
  };
}
