import { Buffer } from 'node:buffer';
import { parseArgs } from 'node:util';
import { compareDocument, type ExpectationResult } from '../../review/attestation/compare.ts';
import { awsNitroAnchor, type TrustAnchor } from '../../shared/attestation/anchors.ts';
import { isDebugImage } from '../../shared/attestation/expect.ts';
import { type CheckResult, type Explanation, explainAttestation } from '../../shared/attestation/explain.ts';
import { DOCUMENT_MAX_BYTES } from '../../shared/attestation/limits.ts';
import type { UnverifiedDocument } from '../../shared/attestation/parse.ts';
import { isZeroPcr } from '../../shared/pcr.ts';
import { readDocumentExpectations } from '../attestation/expectations-file.ts';
import type { Command, CommandIo } from '../command.ts';
import { CommandError } from '../errors.ts';
import { fromBase64, parseTime, readAnchor, readSmall } from '../proof-input.ts';

const HELP = `
Usage: strongroom attestation verify DOC [--at TIME] [--expect FILE] [--root FILE] [--json]

Checks whether an attestation document is well formed and genuine, and prints every check with its
outcome (docs/attestation.md explains each by the number printed). Whether it is of the enclave that
you want, --expect compares, one by one; without it the measurements are printed for you to compare.
Debug mode is pointed out. Any document of a Nitro enclave will do, not only those of Strongroom.

  DOC          the document: CBOR as the security module gives it, or base64 of that; "-" reads it
               from standard input
  --at TIME    when the certificates must be valid, for example 2024-11-30T16:22:48Z; default: now.
               "document" takes the document's own timestamp: that shows that it was genuine then,
               and says nothing about now
  --expect FILE  compare with this: registers, age, nonce, digests of public key and user data, in the
               file that callers have too (docs/attestation.md section 12)
  --root FILE  trust this simulation root (PEM or DER) instead of the AWS root
  --json       print one JSON document

Example:
  strongroom attestation verify document.cbor --at document

Exit codes: 0 genuine, and as expected where that was asked; 1 refused; 2 not readable as an attestation
document, or usage. The cause is in "code".
`;

interface Options {
  readonly path: string;
  readonly at: Date | 'document';
  readonly root: string | undefined;
  readonly expect: string | undefined;
  readonly json: boolean;
}

async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const options = parse(args);
  const file = options.expect === undefined ? undefined : await readDocumentExpectations(options.expect);
  const root = options.root ?? file?.simulationRootPath;
  const anchor = root === undefined ? awsNitroAnchor() : await readAnchor(root);
  const bytes = fromBase64(await readSmall(options.path, io.stdin, READ_MAX_BYTES));
  let at: Date | undefined;
  const explanation = explainAttestation(bytes, (parsed) => {
    at = options.at === 'document' ? new Date(parsed.untrusted.timestampMs) : options.at;
    return { anchors: [anchor], at };
  });
  const { verified } = explanation;
  const compared =
    file === undefined || verified === undefined || at === undefined
      ? undefined
      : compareDocument(verified, at, file.expected);
  const report: Report = {
    ...explanation,
    // What was asked one by one takes the place of what was not asked at all.
    checks: [
      ...explanation.checks.filter(({ step }) => step !== 'expected' || file === undefined),
      ...(compared ?? []),
    ],
    error: explanation.error ?? compared?.find(({ error }) => error !== undefined)?.error,
    compared: compared !== undefined,
    namesModels: file?.namesModels === true,
    at,
    atDocument: options.at === 'document',
    anchor,
  };
  io.stdout.write(options.json ? `${JSON.stringify(asJson(report))}\n` : asText(report));
  return report.error?.exitCode ?? 0;
}

interface Report extends Omit<Explanation, 'checks'> {
  readonly checks: readonly (CheckResult | ExpectationResult)[];
  /** Whether it came to the expectations. */
  readonly compared: boolean;
  readonly namesModels: boolean;
  /** Undefined if the document's own time was asked for and could not be read. */
  readonly at: Date | undefined;
  readonly atDocument: boolean;
  readonly anchor: TrustAnchor;
}

function parse(args: readonly string[]): Options {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      at: { type: 'string' },
      root: { type: 'string' },
      expect: { type: 'string' },
      json: { type: 'boolean', default: false },
    },
  });
  const [path, ...others] = positionals;
  if (path === undefined || others.length > 0)
    throw new CommandError('USAGE', 'Expected exactly one document.');
  const at = parseTime(values.at, 'document') ?? new Date();
  return { path, at, root: values.root, expect: values.expect, json: values.json };
}

/** Base64 of the largest document, with line breaks. */
const READ_MAX_BYTES = Math.ceil(DOCUMENT_MAX_BYTES / 3) * 4 + 1024;

const MARKS: Record<CheckResult['outcome'], string> = {
  passed: '[x]',
  failed: '[!]',
  'not-reached': '[ ]',
  'not-asked': '[-]',
};

const NOT_NOW =
  'Judged at its own time, as --at document asks: it was genuine then. Its certificates live for hours; this says nothing about now.';
const MODELS =
  'Models were not compared: a document has only a digest of them. Callers compare the list that evidence brings.';
const DEBUG =
  'DEBUG MODE: the measurements are all zero, and the parent can read everything in this enclave. Never trust it.';

function asText(report: Report): string {
  const lines: string[] = [];
  let step = '';
  for (const check of report.checks) {
    if (check.outcome === 'not-asked' && !report.compared) continue;
    if (check.step !== step) lines.push(`${lines.length === 0 ? '' : '\n'}Is it ${check.step}?`);
    step = check.step;
    lines.push(`  ${MARKS[check.outcome]} ${check.section.padEnd(4)} ${check.what}`);
    if (check.detail !== '') lines.push(`           ${check.detail}`);
  }
  lines.push('', ...(report.parsed === undefined ? [] : [...fieldLines(report), '']));
  if (report.atDocument && report.verified !== undefined) lines.push(NOT_NOW);
  if (report.parsed !== undefined && isDebugImage(report.parsed.untrusted)) lines.push(DEBUG);
  if (report.namesModels) lines.push(MODELS);
  const { error } = report;
  const genuine = `Genuine: trust ${report.verified?.trust}`;
  lines.push(
    ...(error === undefined
      ? [
          report.compared
            ? `${genuine}, and as expected.`
            : `${genuine}. Compare the measurements with the reviewed release.`,
        ]
      : [`Refused: ${error.message}`, `  code: ${error.code}`, `  next: ${error.action}`]),
  );
  return `${lines.join('\n')}\n`;
}

function fieldLines({ parsed, verified }: Report): string[] {
  const { untrusted: fields } = parsed as UnverifiedDocument;
  const lines = [
    verified === undefined ? 'What it says (not verified, do not rely on it):' : 'What it says:',
  ];
  const add = (name: string, value: string) => lines.push(`  ${name.padEnd(12)} ${value}`);
  add('module id', fields.moduleId);
  add('dated', new Date(fields.timestampMs).toISOString());
  if (verified !== undefined) add('valid until', verified.notAfter.toISOString());
  for (const [index, value] of fields.pcrs) if (!isZeroPcr(value)) add(`PCR${index}`, hex(value));
  const zero = [...fields.pcrs].filter(([, value]) => isZeroPcr(value)).map(([index]) => index);
  if (zero.length > 0) add('zero PCRs', zero.join(', '));
  for (const [name, value] of [
    ['public key', fields.publicKey],
    ['user data', fields.userData],
    ['nonce', fields.nonce],
  ] as const) {
    add(name, value === null ? 'none' : `${value.length} bytes ${shortened(value)}`);
  }
  return lines;
}

function asJson(report: Report) {
  const { checks, error, parsed, verified, at, anchor } = report;
  const fields = parsed?.untrusted;
  return {
    genuine: verified !== undefined,
    // Null: nothing was expected, or it did not come to that.
    asExpected: report.compared ? error === undefined : null,
    code: error?.code ?? null,
    message: error?.message ?? null,
    action: error?.action ?? null,
    at: at?.toISOString() ?? null,
    atDocument: report.atDocument,
    trusted: anchor.trust,
    trust: verified?.trust ?? null,
    notAfter: verified?.notAfter.toISOString() ?? null,
    debug: fields === undefined ? null : isDebugImage(fields),
    checks: checks.map(({ check, section, step, what, outcome, detail }) => ({
      check,
      section,
      step,
      what,
      outcome,
      detail,
    })),
    // Readable before it is genuine: a consumer must look at "genuine" first, as the name says.
    [verified === undefined ? 'unverifiedDocument' : 'document']:
      fields === undefined
        ? null
        : {
            moduleId: fields.moduleId,
            timestamp: new Date(fields.timestampMs).toISOString(),
            pcrs: Object.fromEntries([...fields.pcrs].map(([index, value]) => [index, hex(value)])),
            publicKey: fields.publicKey && base64(fields.publicKey),
            userData: fields.userData && base64(fields.userData),
            nonce: fields.nonce && base64(fields.nonce),
          },
  };
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
const shortened = (bytes: Uint8Array) => hex(bytes.subarray(0, 24)) + (bytes.length > 24 ? '...' : '');

export const command: Command = {
  name: 'attestation verify',
  summary: 'check an attestation document and show every check',
  help: HELP,
  run,
};
