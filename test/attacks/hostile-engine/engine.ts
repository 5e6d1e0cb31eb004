/** The hostile engine: asked for an inference, it attacks, and answers with what became of it. */
import { readBytesElements, writeBytesElements } from '../../../enclave/engine/tensor.ts';
import { openTensorChannel } from '../../../enclave/engine/tensor-channel.ts';
import { attemptEverything, type Target } from './attempts.ts';

export async function run(): Promise<void> {
  const channel = openTensorChannel();
  channel.ready({
    inputs: [{ name: 'target', datatype: 'BYTES', shape: [1] }],
    outputs: [{ name: 'outcomes', datatype: 'BYTES', shape: [1] }],
  });
  for (let question = channel.next(); question !== undefined; question = channel.next()) {
    const [element = new Uint8Array()] = readBytesElements(question.inputs[0]?.data ?? new Uint8Array());
    const target = JSON.parse(Buffer.from(element).toString()) as Target;
    const outcomes = Buffer.from(JSON.stringify(await attemptEverything(target)));
    channel.result([
      { name: 'outcomes', datatype: 'BYTES', shape: [1], data: writeBytesElements([outcomes]) },
    ]);
  }
}
