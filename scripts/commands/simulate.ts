import { readFileSync } from 'node:fs';
import { basename, extname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { connect } from '../../client/connect.ts';
import { guessFormat } from '../../owner/model-format.ts';
import { faultOfIdentity } from '../../shared/sealed-model/identity.ts';
import { LocalStackError } from '../../simulator/errors.ts';
import { LocalStack } from '../../simulator/local-stack.ts';
import type { Command, CommandIo } from '../command.ts';
import { commandLine } from '../command-line.ts';
import { CommandError } from '../errors.ts';
import { expectFile } from '../input-file.ts';
import { type LocalClients, makeClientCertificates } from '../local/client-certificates.ts';
import { type ClientFiles, exampleQuestion, writeClientFiles } from '../local/client-files.ts';
import { type MeasuredPcrs, type ModelBytes, pcrsOf, prepareRelease } from '../local/release.ts';
import { writeReviewFiles } from '../local/review-files.ts';
import { readFlowers, splitFlowers, trainIris } from '../model/iris.ts';
import { encodeIrisModel } from '../model/iris-onnx.ts';

const PROJECT = join(import.meta.dirname, '..', '..');
const DENIALS_INTERVAL_MS = 250;
/** What one read takes; larger models are sealed from their files. */
const MODEL_MAX_BYTES = 2 ** 31 - 1;

export const command: Command = {
  name: 'simulate',
  summary: 'Keep a local stack running: KMS, parent and enclave, serving one model.',
  help: `
Usage: strongroom simulate [MODEL.onnx|MODEL.gguf] [--name N] [--port P] [--folder OUT] [--clients mtls] [--json]

Seals the model with fresh keys, starts a simulated KMS, a parent and an enclave that serves it, and keeps them
running until it is interrupted. Standard output says where it serves and how to ask it; what the processes log,
and why KMS refused something, goes to standard error. Nothing is started again: when the parent or the enclave ends,
so does the simulation.

  MODEL           one ONNX or GGUF file; without it, the demonstration's iris model
  --name N        the model's name; default: the file's name
  --port P        the port for callers on 127.0.0.1; default: a free one
  --folder OUT    where expectations.json, simulation-root.pem, an example input.json and the folder review/ go,
                  and stay; default: a fresh folder that is removed at the end
  --clients mtls  serve only clients with a certificate; makes a CA, a client and a deny list in the same folder
  --json          print one JSON document: url, model, expectations, simulationRoot, input, review, ask, pcrs, and
                  with --clients mtls the files of the client, its CA and the deny list

Example:
  strongroom simulate model.onnx --port 8443

Exit codes: 0 ended by an interrupt; 1 the enclave refused to serve; 2 unusable input, or a process ended.
`,
  run: async (args, io) => simulate(await parse(args), io),
};

interface Choices {
  readonly model: ModelBytes;
  /** What to ask it; undefined where only the model itself can tell. */
  readonly question: object | undefined;
  readonly name: string;
  readonly port: number;
  readonly folder: string | undefined;
  /** Clients show certificates. */
  readonly mtls: boolean;
  readonly json: boolean;
}

async function parse(args: readonly string[]): Promise<Choices> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      name: { type: 'string' },
      port: { type: 'string', default: '0' },
      folder: { type: 'string' },
      clients: { type: 'string', default: 'anyone' },
      json: { type: 'boolean', default: false },
    },
  });
  const [path, ...others] = positionals;
  if (others.length > 0) throw new CommandError('USAGE', 'simulate serves one model: expected one file.');
  const name = values.name ?? (path === undefined ? 'iris' : basename(path, extname(path)));
  const fault = faultOfIdentity({ name, version: 1, format: 'onnx' });
  if (fault !== undefined) throw new CommandError('USAGE', `${fault}; choose another with --name.`);
  const port = /^\d{1,5}$/.test(values.port) ? Number(values.port) : Number.NaN;
  if (!(port <= 65_535))
    throw new CommandError('USAGE', `--port: expected 0 to 65535, found ${values.port}.`);
  const { clients } = values;
  if (clients !== 'anyone' && clients !== 'mtls') {
    throw new CommandError('USAGE', `--clients must be "anyone" or "mtls", not ${JSON.stringify(clients)}.`);
  }
  if (path !== undefined) await expectFile(path, MODEL_MAX_BYTES);
  return {
    ...(path === undefined ? irisModel() : { model: await readModel(path), question: undefined }),
    name,
    port,
    folder: values.folder === undefined ? undefined : resolve(values.folder),
    mtls: clients === 'mtls',
    json: values.json,
  };
}

async function readModel(path: string): Promise<ModelBytes> {
  const bytes = readFileSync(path);
  return (await guessFormat([path])) === 'gguf' ? { gguf: bytes } : { onnx: bytes };
}

function irisModel(): Pick<Choices, 'model' | 'question'> {
  const { training, held } = splitFlowers(readFlowers());
  const data = held[0]?.measurements;
  return {
    model: { onnx: encodeIrisModel(trainIris(training)) },
    question: { inputs: [{ name: 'measurements', datatype: 'FP32', shape: [1, 4], data }] },
  };
}

/** Resolves once it was interrupted and everything is gone. */
async function simulate(choices: Choices, io: CommandIo): Promise<number> {
  const stack = await LocalStack.start({ projectFolder: PROJECT, now: () => new Date() });
  // An interrupt takes the processes away under whatever is being waited for.
  const interrupt = (): void => void stack.close().catch(() => {});
  io.signal.addEventListener('abort', interrupt);
  const stopReporting = reportDenials(stack, io);
  try {
    io.signal.throwIfAborted();
    await serveUntilEnded(stack, choices, io);
    return 0;
  } catch (error) {
    if (io.signal.aborted) return 0;
    throw error;
  } finally {
    stopReporting();
    io.signal.removeEventListener('abort', interrupt);
    await stack.close();
  }
}

/** Rejects when a process ends, by itself or because of an interrupt. */
async function serveUntilEnded(stack: LocalStack, choices: Choices, io: CommandIo): Promise<never> {
  const { name, port, model } = choices;
  const folder = choices.folder ?? join(stack.folder, 'client');
  const clients = choices.mtls ? await makeClientCertificates(folder, new Date()) : undefined;
  const release = await prepareRelease(stack, { name, version: 1, ...model }, clients?.rules);
  const instance = await stack.startInstance({
    deployment: release.deployment,
    modelsFolder: release.modelsFolder,
    ...(clients === undefined ? {} : { denyList: clients.denyList }),
    port,
    onStep: (step) => void io.stderr.write(`enclave: ${step}\n`),
    onLine: (from, line) => void io.stderr.write(`${from}: ${line}\n`),
  });
  await instance.serving;
  const pcrs = pcrsOf(stack, release.deployment);
  const { question, attestation } = await meet(stack, { url: instance.url, pcrs, clients }, choices);
  const review = join(folder, 'review');
  await writeReviewFiles(review, stack, { ...release, modelName: name, attestation });
  const files = writeClientFiles(folder, { name, pcrs, simulationRoot: stack.attestationRoot, question });
  announce({ url: instance.url, files, review, pcrs, clients }, choices, io);
  const ended = await instance.ended;
  throw new LocalStackError('SIMULATION_PROCESS_ENDED', `The ${ended} ended while it was serving.`);
}

/** Over a verified connection, as any client would: something to ask, and what the enclave showed for itself. */
async function meet(
  stack: LocalStack,
  { url, pcrs, clients }: Omit<Served, 'files' | 'review'>,
  { name, question }: Choices,
): Promise<{ question: object | undefined; attestation: Uint8Array }> {
  const shown =
    clients === undefined
      ? {}
      : { clientCertificate: { certFile: clients.clientCertificate, keyFile: clients.clientKey } };
  await using enclave = await connect(url, { pcrs, simulationRoot: stack.attestationRoot }, shown);
  return {
    question: question ?? (await exampleQuestion(enclave, name)),
    attestation: enclave.evidence.document,
  };
}

interface Served {
  readonly url: string;
  readonly files: ClientFiles;
  /** The folder of what a reviewer is handed. */
  readonly review: string;
  readonly pcrs: MeasuredPcrs;
  readonly clients: LocalClients | undefined;
}

function announce(
  { url, files, review, pcrs, clients }: Served,
  { name, model, folder, json }: Choices,
  io: CommandIo,
): void {
  const { expectations, input } = files;
  const isText = 'gguf' in model;
  const ask = ['npx', 'strongroom', 'ask', url, '--expect', expectations, '--model', name];
  const question = isText ? ['Tell me a story.'] : ['--input', input ?? 'FILE'];
  const shown =
    clients === undefined
      ? []
      : ['--client-cert', clients.clientCertificate, '--client-key', clients.clientKey];
  const line = commandLine(...ask, ...question, ...shown);
  if (json) {
    io.stdout.write(
      `${JSON.stringify({ url, model: name, ...files, review, ask: line, pcrs, ...withoutRules(clients) })}\n`,
    );
    return;
  }
  io.stdout.write(`
Serving ${name} at ${url}
Expectations: ${expectations}
For a reviewer (docs/review.md): ${review}
${isText ? 'It takes text' : `Example input: ${input ?? 'none: the inputs of this model have no form in JSON'}`}
${folder === undefined ? 'These files go when the simulation ends.' : 'These files stay; they are of no use to the next simulation.'}

Ask it:

  ${line}
${clients === undefined ? '' : aboutClients(clients)}
Ctrl-C ends it.
`);
}

function withoutRules(clients: LocalClients | undefined): Partial<LocalClients> {
  if (clients === undefined) return {};
  const { rules: _, ...files } = clients;
  return files;
}

function aboutClients({ clientCa, trustDomain, spiffe, denyList, denyListKey }: LocalClients): string {
  const issue = [
    'npx',
    'strongroom',
    'cert',
    'issue',
    '--ca',
    clientCa,
    '--client',
    `spiffe://${trustDomain}`,
  ];
  const deny = ['npx', 'strongroom', 'deny-list', 'sign', denyList, '--key', denyListKey];
  return `
Make another client, and shut this one out or let it in again; the enclave knows within ten seconds:

  ${commandLine(...issue, '--hours', '24', '-o', 'client-2')}
  ${commandLine(...deny, '--deny', spiffe)}
  ${commandLine(...deny, '--undeny', spiffe)}
`;
}

/** Tells what KMS refuses from now on, and why. */
function reportDenials(stack: LocalStack, io: CommandIo): () => void {
  let reported = 0;
  const report = (): void => {
    const denials = stack.denials();
    for (const { operation, caller, errorCode, explanation } of denials.slice(reported)) {
      io.stderr.write(`kms: refused ${operation} by ${caller ?? 'somebody unknown'}: ${errorCode}\n`);
      for (const line of explanation) io.stderr.write(`kms:   ${line}\n`);
    }
    reported = denials.length;
  };
  const timer = setInterval(report, DENIALS_INTERVAL_MS);
  return () => {
    clearInterval(timer);
    report();
  };
}
