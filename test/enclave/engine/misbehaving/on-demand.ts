/**
 * An engine that misbehaves as its input says. Its only output is named after the model's bytes, so that a
 * test can have a restarted engine describe itself differently.
 */
import { readFileSync, writeSync } from 'node:fs';
import { readFrameSync, writeFrameSync } from '../../../../enclave/engine/frames.ts';
import { openTensorChannel } from '../../../../enclave/engine/tensor-channel.ts';

readFrameSync(3);
const channel = openTensorChannel();
const outputName = readFileSync('/proc/self/fd/4', 'utf8');
channel.ready({
  inputs: [{ name: 'behaviour', datatype: 'BYTES', shape: [1] }],
  outputs: [{ name: outputName, datatype: 'INT32', shape: [1] }],
});
for (let question = channel.next(); question !== undefined; question = channel.next()) {
  const behaviour = Buffer.from(question.inputs[0]?.data.subarray(4) ?? []).toString();
  const data = new Uint8Array(Int32Array.of(process.pid).buffer);
  const honest = { name: outputName, datatype: 'INT32' as const, shape: [1], data };
  switch (behaviour) {
    case 'exit':
      process.exit(3);
      break;
    case 'abort':
      process.abort();
      break;
    case 'hang':
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
      break;
    case 'huge frame':
      writeSync(3, Buffer.alloc(8, 0xff));
      break;
    case 'not JSON':
      writeFrameSync(3, 'text' as unknown as object, []);
      break;
    case 'twice':
      channel.result([honest]);
      channel.result([honest]);
      break;
    case 'ready again':
      channel.ready({ inputs: [], outputs: [] });
      break;
    case 'another output':
      channel.result([{ ...honest, name: 'other' }]);
      break;
    case 'reject':
      channel.rejected('does not run');
      break;
    case 'slow':
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
      channel.result([honest]);
      break;
    default:
      channel.result([honest]);
  }
}
