/** Answers a question that nobody asked before it is ready. */
import { openTensorChannel } from '../../../../enclave/engine/tensor-channel.ts';

openTensorChannel().result([]);
setInterval(() => {}, 1_000);
