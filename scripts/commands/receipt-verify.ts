import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { checkExpectations } from '../../client/expectations.ts';
import { readExpectationsFile } from '../../client/index.ts';
import { awsNitroAnchor, type TrustAnchor } from '../../shared/attestation/anchors.ts';
import type { ReceiptCheckResult } from '../../shared/receipt/checks.ts';
import { readStreamEnding } from '../../shared/receipt/decode.ts';
import { explainReceipt, type ReceiptExplanation } from '../../shared/receipt/explain.ts';
import {
  type AnswerHead,
  dated,
  modelThatAnswered,
  RECEIPT_MAX_BYTES,
} from '../../shared/receipt/receipt.ts';
import { parseSalt, type ReceiptExpectations } from '../../shared/receipt/verify.ts';
import {
  ANSWER_HEAD_MAX_BYTES,
  isAnswerHead,
  parseAnswerHead,
  type SavedAnswerHead,
} from '../answer-head.ts';
import type { Command, CommandIo } from '../command.ts';
import { CommandError } from '../errors.ts';
import { expectFile } from '../input-file.ts';
import { fromBase64, parseTime, readAnchor, readSmall } from '../proof-input.ts';

const HELP = `
Usage: strongroom receipt verify RECEIPT [--expect FILE | --root FILE] [--at TIME]
                                 [--request FILE --path PATH] [--answer FILE] [--salt FILE] [--json]

Checks a receipt of an answer, without a network, and prints every check with its outcome
(docs/receipts.md explains each by the number printed): that a genuine enclave signed it, which one,
which model answered, and, where request or answer are given, that it is of these.

  RECEIPT          the receipt: CBOR, or base64 of it, or the head of the answer as "curl -D FILE"
                   saved it, which holds receipt, salt, status and content type. The receipt of a
                   stream is taken from the end of --answer. "-" reads standard input
  --expect FILE    what the enclave and the model must be (docs/evidence.md section 6)
  --root FILE      trust this simulation root (PEM or DER) instead of the AWS root; --expect names
                   its own
  --at TIME        when the certificates must be valid, for example 2024-11-30T16:22:48Z; the
                   receipt may not be dated later. Default "document": the time of its attestation
                   document. That shows that it was genuine then, which is what a receipt is for
  --request FILE   the body of the request, exactly as it was sent
  --method METHOD  of the request; default: POST
  --path PATH      of the request, with its query
  --framing N      Inference-Header-Content-Length of a request with binary tensors
  --answer FILE    the body of the answer, exactly as it was received
  --salt FILE      the value of the header Strongroom-Receipt-Salt, where RECEIPT is no saved head
  --json           print one JSON document

Example:
  curl -D answer.head -o answer.json -H 'Strongroom-Receipt: 1' -H 'Content-Type: application/json' \\
    --data-binary @request.json http://127.0.0.1:8080/v2/models/iris/infer
  strongroom receipt verify answer.head --expect expectations.json \\
    --request request.json --path /v2/models/iris/infer --answer answer.json

Exit codes: 0 verified; 1 refused; 2 not readable as a receipt, or usage. The cause is in "code".
`;

/** The largest request that a deployment can allow is 256 MiB (docs/deployment.md section 3); answers may be larger. */
const BODY_MAX_BYTES = 1024 * 1024 * 1024;
const SMALL_MAX_BYTES = 64 * 1024;
/** Base64 of the largest receipt with line breaks, or a saved head. */
const RECEIPT_READ_MAX_BYTES = Math.max(ANSWER_HEAD_MAX_BYTES, RECEIPT_MAX_BYTES * 2) + 1;

async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const options = parse(args);
  const { expected, anchor } = await readTrust(options);
  const given = await readSmall(options.path, io.stdin, RECEIPT_READ_MAX_BYTES);
  const head = isAnswerHead(given) ? parseAnswerHead(given) : undefined;
  const answer = options.answer === undefined ? undefined : await readBody(options.answer);
  const ending = answer === undefined ? undefined : readStreamEnding(answer);
  const bytes = head === undefined ? fromBase64(given) : receiptOf(head, ending?.receipt);

  const { at } = options;
  const needsSalt = options.request !== undefined || answer !== undefined;
  const salt = needsSalt ? await readSalt(options.salt, head) : new Uint8Array(0);
  const explanation = explainReceipt(bytes, {
    verification: { anchors: [anchor], at },
    ...(expected === undefined ? {} : { expected }),
    ...(options.request === undefined
      ? {}
      : { request: { salt, head: options.requestHead, body: await readBody(options.request) } }),
    ...(answer === undefined
      ? {}
      : {
          answer: {
            salt,
            head: head ?? plainHead(ending !== undefined),
            body: answer.subarray(0, answer.length - (ending?.endingBytes ?? 0)),
          },
        }),
  });
  const report: Report = { ...explanation, at, anchor, expectationsGiven: expected !== undefined };
  io.stdout.write(options.json ? `${JSON.stringify(asJson(report))}\n` : asText(report));
  return explanation.error?.exitCode ?? 0;
}

interface Options {
  readonly path: string;
  readonly expect: string | undefined;
  readonly root: string | undefined;
  readonly at: Date | 'document';
  readonly request: string | undefined;
  readonly requestHead: {
    readonly method: string;
    readonly target: string;
    readonly contentType: string;
    readonly framing: string | undefined;
  };
  readonly answer: string | undefined;
  readonly salt: string | undefined;
  readonly json: boolean;
}

function parse(args: readonly string[]): Options {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      expect: { type: 'string' },
      root: { type: 'string' },
      at: { type: 'string' },
      request: { type: 'string' },
      method: { type: 'string' },
      path: { type: 'string' },
      framing: { type: 'string' },
      answer: { type: 'string' },
      salt: { type: 'string' },
      json: { type: 'boolean', default: false },
    },
  });
  const [path, ...others] = positionals;
  if (path === undefined || others.length > 0) throw usage('Expected exactly one receipt.');
  const { expect, root, request, method, path: target, framing, answer, salt, json } = values;
  if (expect !== undefined && root !== undefined) {
    throw usage('Expected --expect or --root: a file of expectations names its simulation root itself.');
  }
  if ((request === undefined) !== (target === undefined))
    throw usage('Expected --request and --path together.');
  if (request === undefined && (method !== undefined || framing !== undefined)) {
    throw usage('Expected --request with --method and --framing.');
  }
  if (framing !== undefined && !/^\d{1,10}$/.test(framing)) throw usage('Expected --framing as a number.');
  return {
    path,
    expect,
    root,
    at: parseTime(values.at, 'document') ?? 'document',
    request,
    requestHead: {
      method: method ?? 'POST',
      target: target ?? '',
      contentType: framing === undefined ? 'application/json' : 'application/octet-stream',
      framing,
    },
    answer,
    salt,
    json,
  };
}

interface TrustGiven {
  readonly expected: ReceiptExpectations | undefined;
  readonly anchor: TrustAnchor;
}

async function readTrust({ expect, root }: Options): Promise<TrustGiven> {
  if (expect === undefined) {
    return { expected: undefined, anchor: root === undefined ? awsNitroAnchor() : await readAnchor(root) };
  }
  await expectFile(expect, SMALL_MAX_BYTES);
  const { pcrs, models, anchors } = checkExpectations(await readExpectationsFile(expect));
  return { expected: { pcrs, models }, anchor: anchors[0] };
}

async function readBody(path: string): Promise<Uint8Array> {
  await expectFile(path, BODY_MAX_BYTES);
  return await readFile(path);
}

function receiptOf({ receipt }: SavedAnswerHead, ofStream: Uint8Array | undefined): Uint8Array {
  if (receipt !== undefined) return fromBase64(Buffer.from(receipt, 'latin1'));
  if (ofStream !== undefined) return ofStream;
  throw new CommandError(
    'INPUT_UNREADABLE',
    'Expected a receipt in the saved head, or at the end of --answer, found none: the answer may have been cut short.',
  );
}

/** A file, not an argument: who has the salt can try out short prompts. */
async function readSalt(path: string | undefined, head: SavedAnswerHead | undefined): Promise<Uint8Array> {
  if (path === undefined) return parseSalt(head?.salt);
  await expectFile(path, SMALL_MAX_BYTES);
  return parseSalt((await readFile(path, 'latin1')).trim());
}

/** Where no head was saved: what an answer has that was served. */
function plainHead(isStream: boolean): AnswerHead {
  return {
    status: 200,
    contentType: isStream ? 'text/event-stream' : 'application/json',
    framing: undefined,
  };
}

interface Report extends ReceiptExplanation {
  readonly at: Date | 'document';
  readonly anchor: TrustAnchor;
  readonly expectationsGiven: boolean;
}

const MARKS: Record<ReceiptCheckResult['outcome'], string> = {
  passed: '[x]',
  failed: '[!]',
  'not-reached': '[ ]',
  'not-asked': '[-]',
};

function asText(report: Report): string {
  const lines: string[] = [];
  let step = '';
  for (const check of report.checks) {
    if (check.step !== step) lines.push(`${lines.length === 0 ? '' : '\n'}Is it ${check.step}?`);
    step = check.step;
    lines.push(`  ${MARKS[check.outcome]} ${check.section.padEnd(4)} ${check.what}`);
    if (check.detail !== '') lines.push(`           ${check.detail}`);
    if (check.outcome === 'not-asked') lines.push('           not asked: nothing was given to compare with');
  }
  lines.push('', ...fieldLines(report));
  const { error, verified } = report;
  if (error !== undefined) {
    lines.push(`Refused: ${error.message}`, `  code: ${error.code}`, `  next: ${error.action}`);
  } else if (verified !== undefined) {
    lines.push(`Verified: trust ${verified.trust}.`);
    if (!report.expectationsGiven) {
      lines.push(
        'Any enclave could have signed it: compare the measurements with the reviewed release, or give --expect.',
      );
    }
    if (verified.trust === 'simulation') lines.push('It proves nothing beyond the simulation.');
  }
  return `${lines.join('\n')}\n`;
}

function fieldLines({ parsed, verified }: Report): string[] {
  if (parsed === undefined) return [];
  const { untrusted: fields } = parsed;
  const lines = [
    verified === undefined ? 'What it says (not verified, do not rely on it):' : 'What it says:',
  ];
  const add = (name: string, value: string) => lines.push(`  ${name.padEnd(12)} ${value}`);
  const { version, contentId } = modelThatAnswered(fields);
  add('model', `${fields.model} ${version}, content id ${contentId}`);
  add('answered', dated(fields.timestampMs));
  add('sequence', `${fields.sequence} of its enclave`);
  if (verified !== undefined) {
    const { document, deploymentSha384 } = verified;
    add('deployment', hex(deploymentSha384));
    for (const index of [0, 1, 2, 3, 4, 8, 16]) {
      const value = document.fields.pcrs.get(index);
      if (value?.some((byte) => byte !== 0)) add(`PCR${index}`, hex(value));
    }
    add('enclave', document.fields.moduleId);
    add('attested', dated(document.fields.timestampMs));
  }
  return [...lines, ''];
}

function asJson(report: Report) {
  const { checks, error, parsed, verified, at, anchor } = report;
  const fields = parsed?.untrusted;
  return {
    verified: verified !== undefined && error === undefined,
    code: error?.code ?? null,
    message: error?.message ?? null,
    action: error?.action ?? null,
    at: at === 'document' ? at : at.toISOString(),
    trusted: anchor.trust,
    trust: verified?.trust ?? null,
    expectationsGiven: report.expectationsGiven,
    checks,
    // Readable before it is genuine: a consumer must look at "verified" first, as the name says.
    [verified === undefined ? 'unverifiedReceipt' : 'receipt']:
      fields === undefined
        ? null
        : {
            model: modelThatAnswered(fields),
            models: fields.models,
            answered: dated(fields.timestampMs),
            sequence: fields.sequence,
            requestDigest: hex(fields.requestDigest),
            answerDigest: hex(fields.answerDigest),
            ...(verified === undefined
              ? {}
              : {
                  deploymentSha384: hex(verified.deploymentSha384),
                  enclave: verified.document.fields.moduleId,
                  attested: dated(verified.document.fields.timestampMs),
                  pcrs: Object.fromEntries(
                    [...verified.document.fields.pcrs].map(([index, value]) => [index, hex(value)]),
                  ),
                }),
            document: Buffer.from(fields.document).toString('base64'),
          },
  };
}

function usage(message: string): CommandError {
  return new CommandError('USAGE', message);
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

export const command: Command = {
  name: 'receipt verify',
  summary: 'check the receipt of an answer, offline, and show every check',
  help: HELP,
  run,
};
