import { randomInt } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { recogniseModelFile } from '../../owner/model-file.ts';
import { BUNDLE_MAX_BYTES } from '../../owner/oms/bundle.ts';
import type { CheckResult } from '../../owner/verify/checks.ts';
import { verifyLegacyModel } from '../../owner/verify/verify-legacy.ts';
import { type Verification, verifySealed } from '../../owner/verify/verify-model.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';
import { expectFile } from '../input-file.ts';
import {
  expectSealedOnly,
  MODEL_KEY_HELP,
  MODEL_KEY_OPTIONS,
  readKeyOfLegacy,
  readModelKey,
  readSigner,
} from '../model-key-options.ts';
import { progressLine } from '../progress.ts';
import { KMS_PLACE_HELP } from '../seal-options.ts';

export const command: Command = {
  name: 'verify',
  summary: 'check a sealed or legacy model, with or without its key, and show every check',
  help: `
Usage: strongroom verify NAME.sealed [--signer PUBLIC] [--content-id ID] [KEY OPTIONS] [--sample N|P%]
       strongroom verify NAME.sealed --oms BUNDLE --signer PUBLIC [KEY OPTIONS]
       strongroom verify LEGACY KEY OPTIONS

Shows every check with its outcome, what they prove together, and what they do not. Nothing is released.

The head holds a digest of every 64 MiB of the payload, and its own SHA-256 is the content id that the manifest's
signer vouches for: so whether the payload is what was signed can be checked without any key. With a key, the model
is opened strictly as an enclave would, but to nowhere.

  --signer PUBLIC       the public key that must have signed the manifest (with --oms: the bundle)
  --content-id ID       the content id that the model must have, from a source that you trust
  --oms BUNDLE          check an OpenSSF Model Signing bundle over the model in place of the manifest's signature
  --sample N | P%       look at so many segments of 64 MiB only, drawn at random

The key, one of:
${MODEL_KEY_HELP}

${KMS_PLACE_HELP}

      --json            print one JSON document

Example:
  strongroom verify iris.sealed --signer keys/signing.pub.pem

Exit codes: 0 all that was asked is in order and somebody vouches for the model; 1 refused; 2 usage, or not readable
as a model; 3 cannot decide: nobody vouches for it, or it could not be read to the end. The cause is in "code".
`,
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        ...MODEL_KEY_OPTIONS,
        signer: { type: 'string' },
        'content-id': { type: 'string' },
        oms: { type: 'string' },
        sample: { type: 'string' },
        json: { type: 'boolean', default: false },
      },
    });
    const [model, ...rest] = positionals;
    if (model === undefined || rest.length > 0) throw new CommandError('USAGE', 'verify needs one model.');
    if (values.oms !== undefined && values.signer === undefined) {
      throw new CommandError('USAGE', '--oms needs --signer PUBLIC, the key that signed the bundle.');
    }
    const contentId = contentIdOf(values['content-id']);
    const sample = sampleOf(values.sample);
    const progress = progressLine(io.stderr, () => performance.now());
    const observe = {
      signal: io.signal,
      onProgress: (doneBytes: number, totalBytes: number) =>
        progress.show('verifying', doneBytes, totalBytes),
    };
    let verification: Verification;
    try {
      if ((await recogniseModelFile(model)) === 'sealed-model') {
        using key = await readModelKey(values);
        const signer = await readSigner(values.signer);
        const oms = values.oms === undefined ? undefined : await readBundle(values.oms);
        const request = { sealed: model, signer, contentId, oms, key, sample, random: randomInt, ...observe };
        verification = await verifySealed(request);
      } else {
        expectSealedOnly(values, ['signer', 'content-id', 'oms', 'sample']);
        using key = await readKeyOfLegacy('verify', values);
        verification = await verifyLegacyModel(model, key, observe);
      }
    } finally {
      progress.end();
    }
    io.stdout.write(values.json ? `${JSON.stringify(asJson(verification))}\n` : asText(verification));
    return verification.error?.exitCode ?? 0;
  },
};

function contentIdOf(text: string | undefined): string | undefined {
  if (text === undefined || /^[0-9a-fA-F]{64}$/.test(text)) return text?.toLowerCase();
  throw new CommandError('USAGE', `--content-id must be 64 hexadecimal digits, not ${JSON.stringify(text)}.`);
}

/** "25%" of the segments, rounded up, or so many. */
function sampleOf(text: string | undefined): ((segmentCount: number) => number) | undefined {
  if (text === undefined) return undefined;
  const [, digits, percent] = /^(\d{1,9}(?:\.\d{1,6})?)(%?)$/.exec(text) ?? [];
  const number = Number(digits);
  if (percent === '%' && number > 0 && number <= 100) return (count) => Math.ceil((count * number) / 100);
  if (percent === '' && Number.isInteger(number) && number > 0) return () => number;
  throw new CommandError(
    'USAGE',
    `--sample must be a number of segments or a share such as 5%, not ${text}.`,
  );
}

async function readBundle(path: string): Promise<Uint8Array> {
  await expectFile(path, BUNDLE_MAX_BYTES);
  return readFile(path);
}

const MARKS: Record<CheckResult['outcome'], string> = {
  passed: '[x]',
  failed: '[!]',
  undecided: '[?]',
  'not-reached': '[ ]',
  'not-asked': '[-]',
};

function asText({ checks, error, model, proven, notProven }: Verification): string {
  const lines: string[] = [];
  let step = '';
  for (const check of checks) {
    if (check.outcome === 'not-asked') continue;
    if (check.step !== step) lines.push(`${lines.length === 0 ? '' : '\n'}Is it ${check.step}?`);
    step = check.step;
    lines.push(`  ${MARKS[check.outcome]} ${check.section.padEnd(4)} ${check.what}`);
    if (check.detail !== '') lines.push(`           ${check.detail}`);
  }
  lines.push('');
  if (model !== undefined)
    lines.push(`${model.name} version ${model.version}, content id ${model.contentId}`, '');
  if (proven.length > 0) lines.push('Proven:', ...proven.map((line) => `  + ${line}`));
  if (notProven.length > 0) lines.push('Not proven:', ...notProven.map((line) => `  - ${line}`));
  if (proven.length + notProven.length > 0) lines.push('');
  if (error === undefined) lines.push('In order.');
  else {
    const verdict = error.exitCode === 3 ? 'Cannot decide' : 'Refused';
    lines.push(`${verdict}: ${error.message}`, `  code: ${error.code}`, `  next: ${error.action}`);
  }
  return `${lines.join('\n')}\n`;
}

function asJson({ checks, error, model, proven, notProven }: Verification) {
  return {
    inOrder: error === undefined,
    code: error?.code ?? null,
    message: error?.message ?? null,
    action: error?.action ?? null,
    // Readable before anybody vouches for it: a consumer must look at "inOrder" first.
    [error === undefined ? 'model' : 'claimedModel']: model ?? null,
    checks,
    proven,
    notProven,
  };
}
