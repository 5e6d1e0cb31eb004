import { readFile } from 'node:fs/promises';
import { buffer } from 'node:stream/consumers';
import { parseArgs } from 'node:util';
import { ClientError } from '../../client/errors.ts';
import { connect, type EnclaveEvidence, readExpectationsFile } from '../../client/index.ts';
import type { Command, CommandIo } from '../command.ts';
import { CommandError } from '../errors.ts';
import { expectFile } from '../input-file.ts';

const EXPECTATIONS_MAX_BYTES = 64 * 1024;
/** The largest request that a deployment can allow (docs/deployment.md section 3). */
const INPUT_MAX_BYTES = 268_435_456;

const HELP = `
Usage: strongroom ask URL --expect FILE --model NAME --input FILE|- [--json]

Verifies the enclave at URL, sends it one inference request and prints the answer. Nothing of the
input leaves this machine before the enclave has shown what the expectations ask for.

  URL             https://HOST:PORT of the enclave (through its parent)
  --expect FILE   what the enclave must be: measurements and models (docs/evidence.md section 6)
  --model NAME    the model to ask
  --input FILE    an Open Inference Protocol v2 request in JSON; "-" reads standard input
  --json          print one JSON document: what was verified, and the answer

Example:
  echo '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[5.1,3.5,1.4,0.2]}]}' |
    strongroom ask https://127.0.0.1:8443 --expect expectations.json --model iris --input -

Exit codes: 0 answered; 1 refused, by a check of the enclave or by the enclave; 2 unusable input;
3 not reachable or busy.
`;

async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const { url, expect, model, input, json } = parse(args);
  await expectFile(expect, EXPECTATIONS_MAX_BYTES);
  const expectations = await readExpectationsFile(expect);
  const body = await readInput(input, io);
  await using enclave = await connect(url, expectations);
  if (!json) io.stderr.write(`${verifiedLine(enclave.evidence)}\n`);

  const response = await enclave.fetch(`/v2/models/${encodeURIComponent(model)}/infer`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
    signal: io.signal,
  });
  const text = await response.text();
  if (!response.ok) {
    throw new ClientError(
      'CLIENT_REQUEST_REFUSED',
      `The enclave answers ${response.status}: ${reasonOf(text)}`,
    );
  }
  const answer = parseAnswer(text);
  io.stdout.write(
    json ? `${JSON.stringify(report(enclave.evidence, answer))}\n` : `${tensorLines(answer)}\n`,
  );
  return 0;
}

function parse(args: readonly string[]) {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      expect: { type: 'string' },
      model: { type: 'string' },
      input: { type: 'string' },
      json: { type: 'boolean', default: false },
    },
  });
  const [url, ...others] = positionals;
  const { expect, model, input, json } = values;
  if (url === undefined || others.length > 0) throw new CommandError('USAGE', 'Expected exactly one URL.');
  if (expect === undefined)
    throw new CommandError('USAGE', 'Expected --expect FILE: nothing is asked unverified.');
  if (model === undefined) throw new CommandError('USAGE', 'Expected --model NAME.');
  if (input === undefined)
    throw new CommandError('USAGE', 'Expected --input FILE, or --input - for standard input.');
  return { url, expect, model, input, json };
}

async function readInput(input: string, io: CommandIo): Promise<Uint8Array<ArrayBuffer>> {
  if (input === '-') return buffer(io.stdin as NodeJS.ReadStream);
  await expectFile(input, INPUT_MAX_BYTES);
  return readFile(input);
}

function verifiedLine({ trust, pcrs, moduleId }: EnclaveEvidence): string {
  const image = pcrs[0]?.slice(0, 16);
  const deployment = pcrs[16]?.slice(0, 16);
  return `verified: ${moduleId} (trust: ${trust}), image ${image}..., deployment ${deployment}...`;
}

interface Answer {
  readonly outputs?: readonly {
    readonly name?: unknown;
    readonly shape?: unknown;
    readonly data?: unknown;
  }[];
}

function parseAnswer(text: string): Answer {
  try {
    return JSON.parse(text) as Answer;
  } catch (cause) {
    throw new ClientError(
      'CLIENT_REQUEST_REFUSED',
      'The enclave answers with something other than JSON.',
      cause,
    );
  }
}

/** The reason as the enclave gives it: `{"error": text}` in the Open Inference Protocol. */
function reasonOf(text: string): string {
  try {
    return String((JSON.parse(text) as { error?: unknown }).error);
  } catch {
    return text.slice(0, 200);
  }
}

function tensorLines({ outputs = [] }: Answer): string {
  return outputs
    .map(({ name, shape, data }) => `${name} ${JSON.stringify(shape)}: ${JSON.stringify(data)}`)
    .join('\n');
}

function report(evidence: EnclaveEvidence, answer: Answer): unknown {
  const { document, timestamp, ...verified } = evidence;
  return {
    verified: {
      ...verified,
      timestamp: timestamp.toISOString(),
      document: Buffer.from(document).toString('base64'),
    },
    answer,
  };
}

export const command: Command = {
  name: 'ask',
  summary: 'Verify an enclave and send it one inference request',
  help: HELP,
  run,
};
