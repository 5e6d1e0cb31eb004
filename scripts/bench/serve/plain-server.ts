/**
 * The peer: plain HTTP on loopback around ONNX Runtime in the same process, as people serve a model who trust their
 * host. No TLS, no confinement, and it reads its requests with JSON.parse. `node plain-server.ts MODEL THREADS`
 * prints the port that it listens on.
 */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { InferenceSession, Tensor } from 'onnxruntime-node';

const [model = '', threads = '1'] = process.argv.slice(2);
const session = await InferenceSession.create(readFileSync(model), {
  executionProviders: ['cpu'],
  intraOpNumThreads: Number(threads),
  interOpNumThreads: 1,
  extra: { session: { intra_op: { allow_spinning: '0' } } },
});

const server = createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => void answer(Buffer.concat(chunks)).then((body) => response.end(body)));
});

async function answer(body: Buffer): Promise<string> {
  const { inputs } = JSON.parse(body.toString()) as {
    inputs: { name: string; shape: number[]; data: number[] }[];
  };
  const feeds = Object.fromEntries(
    inputs.map(({ name, shape, data }) => [name, new Tensor('float32', Float32Array.from(data), shape)]),
  );
  const results = await session.run(feeds);
  const outputs = Object.entries(results).map(([name, { dims, data }]) => ({
    name,
    datatype: 'FP32',
    shape: dims,
    data: [...(data as Float32Array)],
  }));
  return JSON.stringify({ outputs });
}

server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`);
});
process.stdin.on('end', () => process.exit(0)).resume();
