/**
 * Callers who misbehave, against parent, enclave and engines as they run: five hundred connections of which half do, and
 * one that stops reading a long text.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ask, openConnection } from '../../scripts/bench/serve/caller.ts';
import { hostileJson } from '../../scripts/bench/serve/hostile-requests.ts';
import { askTensors, askText } from '../../scripts/bench/serve/load.ts';
import { MISBEHAVIOURS, misbehave } from '../../scripts/bench/serve/misbehave.ts';
import { childrenOf, processSample } from '../../scripts/bench/serve/process-sample.ts';
import { type Serving, startServing, TARGETS } from '../../scripts/bench/serve/stack.ts';
import { TINY_LLAMA } from '../../scripts/model/random-llama.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';
import { PATIENCE_MS } from '../support/eventually.ts';
import { isAlive, startStack } from './support.ts';

const CALLERS = 500;
/** Less than the time after which the enclave closes a connection on which nothing is asked. */
const KEEP_OPEN_MS = 10_000;
/** More events than all buffers on the way can hold. */
const LONG_TEXT_TOKENS = 6_000;
const SETTLED = { timeout: 3 * PATIENCE_MS, interval: 500 };

let stack: LocalStack;
let serving: Serving;
let port: number;
beforeAll(async () => {
  stack = await startStack();
  serving = await startServing(stack, { shape: { ...TINY_LLAMA, contextTokens: 8_192 } });
  port = Number(new URL(serving.instance.url).port);
}, 240_000);
afterAll(() => stack?.close());

const open = () => openConnection({ host: '127.0.0.1', port });
const enclavePid = (): number => serving.instance.enclave.process.pid;
const descriptors = (): number[] =>
  [serving.instance.parentPid, enclavePid()].map((pid) => processSample([pid]).descriptors);

it('five hundred connections of which half misbehave: the others get every answer, and descriptors come back', async () => {
  const before = descriptors();
  const first = await open();
  const expected = [(await askTensors(first, TARGETS)).said, (await askText(first, TARGETS)).said];
  first.destroy();
  const engines = childrenOf(enclavePid());
  // All begin at once: the enclave gives evidence to fifty a second, and those who have it wait for the others.
  const sockets = Array.from({ length: CALLERS }, open);
  const allOpen = Promise.all(sockets).then(() => descriptors()[1] as number);
  const answers = await Promise.all(
    sockets.map(async (opening, index) => {
      const socket = await opening;
      while (!(await Promise.race([allOpen, sleep(KEEP_OPEN_MS)]))) {
        await ask(socket, 'GET', '/v2/health/live');
      }
      if (index % 2 === 1) {
        const how = MISBEHAVIOURS[(index >> 1) % MISBEHAVIOURS.length] as (typeof MISBEHAVIOURS)[number];
        await misbehave(socket, how, { targets: TARGETS, patienceMs: 10_000 });
        return [];
      }
      const said = [(await askTensors(socket, TARGETS)).said, (await askText(socket, TARGETS)).said];
      socket.destroy();
      return JSON.stringify(said) === JSON.stringify(expected) ? [] : [JSON.stringify(said)];
    }),
  );
  expect((await allOpen) - (before[1] as number)).toBeGreaterThanOrEqual(CALLERS);
  expect(answers.flat()).toEqual([]);
  for (const [index, count] of before.entries()) {
    await expect.poll(() => descriptors()[index], SETTLED).toBeLessThanOrEqual(count + 4);
  }
  expect(childrenOf(enclavePid())).toEqual(engines);
  expect(engines.every(isAlive)).toBe(true);
}, 240_000);

it('what only the engine can judge is refused by it, and it lives on', async () => {
  const engines = childrenOf(enclavePid());
  const found: Record<string, string> = {};
  for (const { name, bytes } of hostileJson(TARGETS).filter(({ name }) =>
    /prototype in a schema|refers|context/.test(name),
  )) {
    const socket = await open();
    socket.write(bytes);
    const [head] = (await once(socket, 'data')) as [Buffer];
    found[name] = head.toString('latin1').slice(0, 'HTTP/1.1 400'.length);
    socket.destroy();
  }
  expect(new Set(Object.values(found)), JSON.stringify(found)).toEqual(new Set(['HTTP/1.1 400']));
  expect(Object.keys(found)).toHaveLength(3);
  expect(childrenOf(enclavePid())).toEqual(engines);
}, 120_000);

it('a caller who stops reading a long text makes the engine stop, others are served, and it goes on when it is read', async () => {
  const socket = await open();
  socket.pause();
  const body = JSON.stringify({
    model: TARGETS.text,
    messages: [{ role: 'user', content: 'what is a house' }],
    temperature: 0,
    logprobs: true,
    top_logprobs: 20,
    max_completion_tokens: LONG_TEXT_TOKENS,
    stream: true,
  });
  const engine = childrenOf(enclavePid()).find((pid) =>
    readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('llama-main'),
  ) as number;
  const begunTicks = engineTicks(engine);
  socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  );
  await expect.poll(() => engineTicks(engine), SETTLED).toBeGreaterThan(begunTicks);
  await settled(() => engineTicks(engine));
  expect(socket.destroyed).toBe(false);

  const other = await open();
  expect((await askText(other, TARGETS)).said).toMatch(/\S/);
  const servedTicks = await settled(() => engineTicks(engine));

  // Had the engine not stopped but finished, nothing would be left for it to do.
  let said = '';
  socket.on('data', (chunk: Buffer) => {
    said += chunk;
  });
  socket.resume();
  await expect.poll(() => engineTicks(engine), SETTLED).toBeGreaterThan(servedTicks + 5);
  expect(said).not.toContain('[DONE]');
  expect(said).toContain('"top_logprobs"');
  socket.destroy();
  await settled(() => engineTicks(engine));
  expect((await askText(other, TARGETS)).said).toMatch(/\S/);
  other.destroy();
}, 240_000);

/** Processor time of a process so far: proc_pid_stat(5), fields 14 and 15. */
function engineTicks(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

/** Resolves with the value that did not change any more for three seconds. */
async function settled(read: () => number): Promise<number> {
  let last = read();
  for (let same = 0; same < 6; ) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    const now = read();
    same = now === last ? same + 1 : 0;
    last = now;
  }
  return last;
}
