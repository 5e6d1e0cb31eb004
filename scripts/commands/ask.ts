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
import { ExchangeKeeper, expectRoom, type KeptReceipt, keptFiles } from '../ask/receipt.ts';
import { askTensors, tensorLines } from '../ask/tensors.ts';
import { writeSaid } from '../ask/terminal.ts';
import {
  CLIENT_OPTIONS,
  CLIENT_OPTIONS_HELP,
  type ClientChoices,
  readClientOptions,
} from '../client-options.ts';
import type { Command, CommandIo } from '../command.ts';
import { commandLine } from '../command-line.ts';
import { CommandError } from '../errors.ts';
import { evidenceReport, verifiedLine } from '../evidence-report.ts';
import { expectFile } from '../input-file.ts';

/** The largest request that a deployment can allow (docs/deployment.md section 3). */
const INPUT_MAX_BYTES = 268_435_456;

const HELP = `
Usage: strongroom ask URL --expect FILE --model NAME PROMPT|- [--system TEXT] [--max-tokens N] [--seed N]
                      [--temperature X] [--receipt FILE] [--json]
       strongroom ask URL --expect FILE --model NAME --input FILE|- [--receipt FILE] [--json]

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
  --receipt FILE       ask for a receipt, check it, and keep the exchange for "strongroom receipt verify": the answer's
                       head with receipt and salt in FILE, the bodies in FILE.request and FILE.answer. Nothing is
                       overwritten, and nothing is written unless the answer is whole and its receipt good
  --json               print one JSON document: what was verified, the answer, and where its receipt is

Ctrl-C gives the answer up, and the enclave stops making it.

Example:
  strongroom ask https://127.0.0.1:8443 --expect expectations.json --model assistant "Why is the sky blue?"
  echo '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[5.1,3.5,1.4,0.2]}]}' |
    strongroom ask https://127.0.0.1:8443 --expect expectations.json --model iris --input -

  strongroom ask https://127.0.0.1:8443 --expect expectations.json --model assistant --receipt sky.receipt "Why?"
  strongroom receipt verify sky.receipt --expect expectations.json --request sky.receipt.request \\
    --path /v1/chat/completions --answer sky.receipt.answer

Exit codes: 0 answered; 1 refused, by a check of the enclave or by the enclave, or interrupted, or the receipt that was
asked for is missing or wrong; 2 unusable input, or a file of --receipt exists; 3 not reachable or busy, or the answer
was lost.
`;

type Question =
  | { readonly kind: 'chat'; readonly chat: ChatQuestion }
  | { readonly kind: 'tensors'; readonly model: string; readonly body: Uint8Array<ArrayBuffer> };

async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const asked = await parse(args, io);
  const { url, json, client, receipt } = asked;
  if (receipt !== undefined) await expectRoom(keptFiles(receipt));
  try {
    const { signal } = io;
    await using enclave = await connect(url, client.expectations, { ...client.connection, signal });
    if (!json) io.stderr.write(`${verifiedLine(enclave.evidence)}\n`);
    await answer(enclave, asked, io);
    return 0;
  } catch (error) {
    if (io.signal.aborted) throw new CommandError('INTERRUPTED', 'The answer was given up.', error);
    throw strongroomErrorIn(error) ?? error;
  }
}

type Asked = Awaited<ReturnType<typeof parse>>;

async function answer(enclave: VerifiedEnclave, asked: Asked, io: CommandIo): Promise<void> {
  const { json, client, receipt } = asked;
  if (receipt === undefined) {
    const given = await print(enclave.fetch, asked, io);
    if (json) io.stdout.write(`${report(enclave.evidence, given)}\n`);
    return;
  }
  const keeper = new ExchangeKeeper(enclave, client.expectations);
  const given = await print(keeper.fetch, asked, io);
  const kept = await keeper.keep(keptFiles(receipt));
  if (json) io.stdout.write(`${report(enclave.evidence, given, kept)}\n`);
  else io.stderr.write(howToVerify(kept, asked.expect));
}

/** Asks, and prints the answer unless it is to be part of a JSON document. */
async function print(
  fetch: typeof globalThis.fetch,
  { question, json }: Asked,
  io: CommandIo,
): Promise<object> {
  const { signal } = io;
  if (question.kind === 'tensors') {
    const given = await askTensors(fetch, { ...question, signal });
    if (!json) io.stdout.write(`${tensorLines(given)}\n`);
    return given;
  }
  let last = '\n';
  const onText = (said: string): Promise<void> | void => {
    last = said.at(-1) ?? last;
    return json ? undefined : writeSaid(io.stdout, said);
  };
  try {
    const given = await askChat(fetch, question.chat, { signal, onText });
    if (!json && given.finishReason === 'length') last = noteLimit(given, last, io);
    return given;
  } finally {
    if (!json && last !== '\n') io.stdout.write('\n');
  }
}

function howToVerify({ files, path, receipt }: KeptReceipt, expect: string): string {
  const { name, version } = receipt.model;
  const exchange = ['--request', files.request, '--path', path, '--answer', files.answer];
  const verify = commandLine(
    'npx',
    'strongroom',
    'receipt',
    'verify',
    files.receipt,
    '--expect',
    expect,
    ...exchange,
  );
  return `receipt ${receipt.sequence} of this enclave, for an answer of ${name} ${version}; to verify it again:\n  ${verify}\n`;
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
      receipt: { type: 'string' },
      json: { type: 'boolean', default: false },
    },
  });
  const [url, prompt, ...others] = positionals;
  const { model, input, receipt, json } = values;
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
  if (receipt === '' || receipt === '-') throw usage('--receipt: expected the name of a file.');
  const client: ClientChoices = await readClientOptions(values);
  const question: Question =
    input === undefined
      ? { kind: 'chat', chat: { model, prompt: await readPrompt(prompt as string, io), ...chatOptions } }
      : { kind: 'tensors', model, body: await readInput(input, io) };
  return { url, json, client, expect: values.expect as string, receipt, question };
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

function report(evidence: EnclaveEvidence, given: object, kept?: KeptReceipt): string {
  const receipt =
    kept === undefined
      ? {}
      : {
          receipt: {
            ...kept.files,
            path: kept.path,
            sequence: kept.receipt.sequence,
            answered: kept.receipt.answeredAt.toISOString(),
          },
        };
  return JSON.stringify({ verified: evidenceReport(evidence), answer: given, ...receipt });
}

export const command: Command = {
  name: 'ask',
  summary: 'Verify an enclave and ask it: a prompt, answered token by token, or one inference request',
  help: HELP,
  run,
};
