/**
 * Callers of both kinds on one enclave: some ask and check every answer, others misbehave, and one comes and leaves
 * again before it has said anything.
 */
import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TLSSocket } from 'node:tls';
import { type Answer, ask, openConnection } from './caller.ts';
import type { HostileTargets } from './hostile-requests.ts';
import { leaveEarly, MISBEHAVIOURS, type Misbehaviour, misbehave } from './misbehave.ts';

export interface LoadOptions {
  readonly url: string;
  readonly targets: HostileTargets;
  /** Callers at once. */
  readonly good: number;
  readonly bad: number;
  /** How long slow callers stay. */
  readonly patienceMs: number;
}

export interface ServeLoad {
  readonly counts: Readonly<Record<'tensors' | 'texts' | 'later' | 'misbehaved' | 'left', number>>;
  readonly failures: readonly string[];
  /** Resolves when the last caller has gone. */
  stop(): Promise<void>;
}

/** What well-behaved callers get, from then on, is compared with what the first of them got. */
export async function startLoad(options: LoadOptions): Promise<ServeLoad> {
  const { url, targets, good, bad, patienceMs } = options;
  const where = { host: '127.0.0.1', port: Number(new URL(url).port) };
  const open = (): Promise<TLSSocket> => openConnection(where);
  const counts = { tensors: 0, texts: 0, later: 0, misbehaved: 0, left: 0 };
  const failures: string[] = [];
  const failed = (why: string): void => {
    if (failures.length < 100) failures.push(why);
  };
  let stopped = false;

  const first = await open();
  const expected = { tensors: await askTensors(first, targets), texts: await askText(first, targets) };
  first.destroy();

  const goodLane = async (lane: number): Promise<void> => {
    let socket: TLSSocket | undefined;
    const kind = lane % 2 === 0 ? 'tensors' : 'texts';
    while (!stopped) {
      try {
        socket ??= await open();
        const { answer, said } = await (kind === 'tensors' ? askTensors : askText)(socket, targets);
        if (answer.status === 503) counts.later += 1;
        else if (answer.status !== 200)
          failed(`${kind}: ${answer.status} ${answer.body.toString().slice(0, 200)}`);
        else if (said === undefined || said !== expected[kind].said) failed(`${kind}: another answer`);
        else counts[kind] += 1;
        if (answer.headers.connection === 'close') {
          socket.destroy();
          socket = undefined;
        }
      } catch (error) {
        failed(`${kind}: ${(error as Error).message}`);
        socket?.destroy();
        socket = undefined;
      }
      await sleep(randomInt(20, 80));
    }
    socket?.destroy();
  };
  const badLane = async (lane: number): Promise<void> => {
    for (let turn = lane; !stopped; turn++) {
      try {
        const how = MISBEHAVIOURS[turn % MISBEHAVIOURS.length] as Misbehaviour;
        await misbehave(await open(), how, { targets, patienceMs });
        counts.misbehaved += 1;
      } catch (error) {
        failed(`a connection to misbehave on: ${(error as Error).message}`);
        await sleep(1_000);
      }
    }
  };
  const leavingLane = async (): Promise<void> => {
    while (!stopped) {
      await leaveEarly(where);
      counts.left += 1;
      await sleep(randomInt(20, 80));
    }
  };
  const lanes = [
    ...Array.from({ length: good }, (_, lane) => goodLane(lane)),
    ...Array.from({ length: bad }, (_, lane) => badLane(lane)),
    leavingLane(),
  ];
  return {
    counts,
    failures,
    stop: async () => {
      stopped = true;
      await Promise.all(lanes);
    },
  };
}

interface Asked {
  readonly answer: Answer;
  /** Undefined if the answer is no answer, or not complete. */
  readonly said: string | undefined;
}

export async function askTensors(socket: TLSSocket, { tensors, input }: HostileTargets): Promise<Asked> {
  const answer = await ask(socket, 'POST', `/v2/models/${tensors}/infer`, {
    inputs: [{ name: input, datatype: 'FP32', shape: [1, 4], data: [5, 3.5, 1.5, 0.25] }],
  });
  if (answer.status !== 200) return { answer, said: undefined };
  return { answer, said: JSON.stringify(JSON.parse(answer.body.toString()).outputs) };
}

/** Streamed; said is its text, if `[DONE]` came. */
export async function askText(socket: TLSSocket, { text }: HostileTargets): Promise<Asked> {
  const answer = await ask(socket, 'POST', '/v1/chat/completions', {
    model: text,
    messages: [{ role: 'user', content: 'what is a house' }],
    seed: 7,
    max_completion_tokens: 16,
    stream: true,
  });
  const events = answer.body.toString();
  if (answer.status !== 200 || !events.endsWith('data: [DONE]\n\n')) return { answer, said: undefined };
  const said = [...events.matchAll(/^data: (\{.*)$/gm)]
    .map(([, data = '']) => JSON.parse(data).choices[0]?.delta.content ?? '')
    .join('');
  return { answer, said };
}
