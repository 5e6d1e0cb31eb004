import { readFile } from 'node:fs/promises';
import { buffer, text } from 'node:stream/consumers';
import { parseArgs } from 'node:util';
import {
  connect,
  type EnclaveEvidence,
  strongroomErrorIn,
  type VerifiedEnclave,
} from '../../client/index.ts';
import { askChat, type ChatAnswer, type ChatQuestion } from '../ask/chat.ts';
import { askTensors, tensorLines } from '../ask/tensors.ts';
import { writeSaid } from '../ask/terminal.ts';
import {
  CLIENT_OPTIONS,
  CLIENT_OPTIONS_HELP,
  type ClientChoices,
  readClientOptions,
} from '../client-options.ts';
import type { Command, CommandIo } from '../command.ts';
import { CommandError } from '../errors.ts';
import { evidenceReport, verifiedLine } from '../evidence-report.ts';
import { expectFile } from '../input-file.ts';

/** The largest request that a deployment can allow (docs/deployment.md section 3). */
const INPUT_MAX_BYTES = 268_435_456;

const HELP = `
Usage: strongroom ask URL --expect FILE --model NAME PROMPT|- [--system TEXT] [--max-tokens N] [--seed N]
                      [--temperature X] [--json]
       strongroom ask URL --expect FILE --model NAME --input FILE|- [--json]

Verifies the enclave at URL, asks it, and prints the answer: of a language model as it is made, token by token; of
other models when it is whole. Nothing of the question leaves this machine before the enclave has shown what the
expectations ask for. What was verified goes to standard error.

  URL                  https://HOST:PORT of the enclave (through its parent)
  PROMPT               what to ask a language model; "-" reads standard input, which other users of this machine
                       cannot see, unlike arguments
  ${CLIENT_OPTIONS_HELP}
  --model NAME         the model to ask
  --system TEXT        instructions before the prompt
  --max-tokens N       the most tokens to answer with
  --seed N             the same prompt and seed give the same answer
  --temperature X      0 always takes the likeliest token
  --input FILE         an Open Inference Protocol v2 request in JSON, in place of a prompt; "-" reads standard input
  --json               print one JSON document: what was verified, and the answer

Ctrl-C gives the answer up, and the enclave stops making it.

Example:
  strongroom ask https://127.0.0.1:8443 --expect expectations.json --model assistant "Why is the sky blue?"
  echo '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[5.1,3.5,1.4,0.2]}]}' |
    strongroom ask https://127.0.0.1:8443 --expect expectations.json --model iris --input -

Exit codes: 0 answered; 1 refused, by a check of the enclave or by the enclave, or interrupted; 2 unusable input;
3 not reachable or busy, or the answer was lost.
`;

type Question =
  | { readonly kind: 'chat'; readonly chat: ChatQuestion }
  | { readonly kind: 'tensors'; readonly model: string; readonly body: Uint8Array<ArrayBuffer> };

async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const { url, json, client, question } = await parse(args, io);
  try {
    const { signal } = io;
    await using enclave = await connect(url, client.expectations, { ...client.connection, signal });
    if (!json) io.stderr.write(`${verifiedLine(enclave.evidence)}\n`);
    await answer(enclave, question, json, io);
    return 0;
  } catch (error) {
    if (io.signal.aborted) throw new CommandError('INTERRUPTED', 'The answer was given up.', error);
    throw strongroomErrorIn(error) ?? error;
  }
}

async function answer(
  enclave: VerifiedEnclave,
  question: Question,
  json: boolean,
  io: CommandIo,
): Promise<void> {
  const { signal } = io;
  if (question.kind === 'tensors') {
    const given = await askTensors(enclave, { ...question, signal });
    io.stdout.write(json ? `${report(enclave.evidence, given)}\n` : `${tensorLines(given)}\n`);
    return;
  }
  let last = '\n';
  const onText = (said: string): Promise<void> | void => {
    last = said.at(-1) ?? last;
    return json ? undefined : writeSaid(io.stdout, said);
  };
  try {
    const given = await askChat(enclave, question.chat, { signal, onText });
    if (json) io.stdout.write(`${report(enclave.evidence, given)}\n`);
    else if (given.finishReason === 'length') last = noteLimit(given, last, io);
  } finally {
    if (!json && last !== '\n') io.stdout.write('\n');
  }
}

function noteLimit({ usage }: ChatAnswer, last: string, io: CommandIo): string {
  if (last !== '\n') io.stdout.write('\n');
  const count = usage === null ? 'its' : `${usage.completion_tokens}`;
  io.stderr.write(`cut at ${count} tokens; --max-tokens allows more\n`);
  return '\n';
}

async function parse(args: readonly string[], io: CommandIo) {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      ...CLIENT_OPTIONS,
      model: { type: 'string' },
      input: { type: 'string' },
      system: { type: 'string' },
      'max-tokens': { type: 'string' },
      seed: { type: 'string' },
      temperature: { type: 'string' },
      json: { type: 'boolean', default: false },
    },
  });
  const [url, prompt, ...others] = positionals;
  const { model, input, json } = values;
  if (url === undefined || others.length > 0) throw usage('Expected one URL, and one prompt at most.');
  if (model === undefined) throw usage('Expected --model NAME.');
  if ((prompt === undefined) === (input === undefined)) {
    throw usage('Expected a prompt, or --input FILE; "-" for either reads standard input.');
  }
  const chatOptions = {
    system: values.system,
    maxTokens: wholeNumber('--max-tokens', values['max-tokens'], 1),
    seed: wholeNumber('--seed', values.seed, 0),
    temperature: temperature(values.temperature),
  };
  const given = Object.values(chatOptions).some((value) => value !== undefined);
  if (input !== undefined && given)
    throw usage('--input holds all of a request; other options go with a prompt.');
  const client: ClientChoices = await readClientOptions(values);
  const question: Question =
    input === undefined
      ? { kind: 'chat', chat: { model, prompt: await readPrompt(prompt as string, io), ...chatOptions } }
      : { kind: 'tensors', model, body: await readInput(input, io) };
  return { url, json, client, question };
}

async function readPrompt(prompt: string, io: CommandIo): Promise<string> {
  const read = prompt === '-' ? await text(io.stdin as NodeJS.ReadStream) : prompt;
  if (read.trim() === '') throw usage('Expected a prompt, found nothing.');
  return read;
}

async function readInput(input: string, io: CommandIo): Promise<Uint8Array<ArrayBuffer>> {
  if (input === '-') return buffer(io.stdin as NodeJS.ReadStream);
  await expectFile(input, INPUT_MAX_BYTES);
  return readFile(input);
}

function wholeNumber(option: string, given: string | undefined, min: number): number | undefined {
  if (given === undefined) return undefined;
  const value = /^\d{1,16}$/.test(given) ? Number(given) : Number.NaN;
  if (Number.isSafeInteger(value) && value >= min) return value;
  throw usage(`${option}: expected a whole number from ${min}, found ${given}.`);
}

function temperature(given: string | undefined): number | undefined {
  if (given === undefined) return undefined;
  const value = /^\d(\.\d{1,6})?$/.test(given) ? Number(given) : Number.NaN;
  if (value <= 2) return value;
  throw usage(`--temperature: expected 0 to 2, found ${given}.`);
}

function usage(message: string): CommandError {
  return new CommandError('USAGE', message);
}

function report(evidence: EnclaveEvidence, given: object): string {
  return JSON.stringify({ verified: evidenceReport(evidence), answer: given });
}

export const command: Command = {
  name: 'ask',
  summary: 'Verify an enclave and ask it: a prompt, answered token by token, or one inference request',
  help: HELP,
  run,
};
