/** A tensor engine's end of the channel to its supervisor: read a question, write an answer. */
import { CHANNEL_DESCRIPTOR, tell } from './channel.ts';
import { readFrameSync } from './frames.ts';
import type { ModelMetadata, Tensor } from './tensor.ts';
import { type InferMessage, packTensors, readInfer } from './tensor-messages.ts';

export interface TensorChannel {
  ready(metadata: ModelMetadata): void;
  /** The next question; undefined when the supervisor has closed. */
  next(): InferMessage | undefined;
  result(outputs: readonly Tensor[]): void;
  rejected(message: string): void;
}

export function openTensorChannel(): TensorChannel {
  return {
    ready: ({ inputs, outputs }) => tell({ kind: 'ready', inputs, outputs }),
    next: () => {
      const frame = readFrameSync(CHANNEL_DESCRIPTOR);
      return frame === undefined ? undefined : readInfer(frame);
    },
    result: (outputs) => {
      const { heads, body } = packTensors(outputs);
      tell({ kind: 'result', outputs: heads }, body);
    },
    rejected: (message) => tell({ kind: 'rejected', message }),
  };
}
