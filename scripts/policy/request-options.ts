/** One request to KMS, as options describe it. */
import { basename } from 'node:path';
import { parseRegisters, REGISTERS_FILE_MAX_BYTES } from '../../review/registers.ts';
import { awsNitroAnchor, simulationAnchor } from '../../shared/attestation/anchors.ts';
import { parseAttestationDocument } from '../../shared/attestation/parse.ts';
import { verifyAttestationDocument } from '../../shared/attestation/verify.ts';
import { DEPLOYMENT_PCR, pcrOfMeasuredBytes, pcrOfText, zeroPcr } from '../../shared/pcr.ts';
import { accountOfIdentityArn, accountOfRootArn } from '../../shared/policy/arn.ts';
import { attestationContext, timeContext } from '../../shared/policy/context.ts';
import type { CallerIdentity } from '../../shared/policy/model.ts';
import { parseDate } from '../../shared/policy/operators.ts';
import type { CommandIo } from '../command.ts';
import { readDeploymentFile } from '../deployment-file.ts';
import { CommandError } from '../errors.ts';
import { measureFile } from '../image/options.ts';
import { readSmallFile } from '../input-file.ts';

/** Base64 of the largest document, with room. */
const DOCUMENT_FILE_MAX_BYTES = 32 * 1024;
const ROOT_MAX_BYTES = 16 * 1024;
const SESSION = 'session';

/** A role calls in a session, whose name is whoever's who assumed the role. Throws CommandError USAGE. */
export function callerOf(
  arn: string,
  session: string | undefined,
  tags: ReadonlyMap<string, string>,
): CallerIdentity {
  const accountId = accountOfIdentityArn(arn) ?? accountOfRootArn(arn);
  if (accountId === undefined) {
    throw new CommandError(
      'USAGE',
      `--principal takes the ARN of a role, user, session or root user, not ${JSON.stringify(arn)}.`,
    );
  }
  const tagged = tags.size === 0 ? {} : { tags };
  const assumed = /^(arn:[^:]+):sts::\d{12}:assumed-role\/([^/]+)\/(.+)$/.exec(arn);
  if (assumed !== null) {
    // The role's path is not in the session's ARN.
    return {
      arn: `${assumed[1]}:iam::${accountId}:role/${assumed[2]}`,
      sessionArn: arn,
      accountId,
      ...tagged,
    };
  }
  const role = /^(arn:[^:]+):iam::\d{12}:role\/(?:.*\/)?([^/]+)$/.exec(arn);
  if (role === null) return { arn, accountId, ...tagged };
  const sessionArn = `${role[1]}:sts::${accountId}:assumed-role/${role[2]}/${session ?? SESSION}`;
  return { arn, sessionArn, accountId, ...tagged };
}

export interface AttestationOptions {
  /** `none`, `debug`, or the path of a document. */
  readonly attestation: string | undefined;
  readonly image: string | undefined;
  readonly pcrs: string | undefined;
  readonly deployment: string | undefined;
  readonly root: string | undefined;
  /** PCR3 is the role of the instance: here the caller's, unless the registers say otherwise. */
  readonly caller: CallerIdentity;
}

export interface AttestationChoice {
  /** For people: `none`, `debug enclave`, `image X.eif`. */
  readonly name: string;
  readonly context: ReadonlyMap<string, readonly string[]>;
}

/** Throws CommandError USAGE, or what reading the file throws; AttestationError for a document that KMS would refuse. */
export async function readAttestation(
  options: AttestationOptions,
  io: CommandIo,
): Promise<AttestationChoice> {
  const { attestation, image, pcrs, deployment } = options;
  const given = [attestation, image, pcrs].filter((one) => one !== undefined);
  if (given.length > 1) throw new CommandError('USAGE', 'Give one of --attestation, --image and --pcrs.');
  if (deployment !== undefined && image === undefined && pcrs === undefined) {
    throw new CommandError('USAGE', '--deployment needs --image or --pcrs: it runs in some image.');
  }
  if (image !== undefined || pcrs !== undefined) {
    const registers =
      image === undefined ? await registersOfFile(pcrs as string) : await registersOfImage(image, io);
    if (deployment !== undefined) {
      registers.set(DEPLOYMENT_PCR, pcrOfMeasuredBytes((await readDeploymentFile(deployment)).bytes));
    }
    return chosen(`${basename(image ?? (pcrs as string))}`, withSurroundings(registers, options.caller));
  }
  if (attestation === undefined || attestation === 'none') return { name: 'none', context: new Map() };
  if (attestation === 'debug') {
    const zeros = new Map([0, 1, 2].map((index) => [index, zeroPcr()] as const));
    return chosen('debug enclave', withSurroundings(zeros, options.caller));
  }
  return chosen(basename(attestation), await registersOfDocument(attestation, options.root));
}

function chosen(name: string, registers: ReadonlyMap<number, Uint8Array>): AttestationChoice {
  return { name, context: attestationContext(registers) };
}

async function registersOfImage(path: string, io: CommandIo): Promise<Map<number, Uint8Array>> {
  const { pcr0, pcr1, pcr2, pcr8 } = (await measureFile(path, io)).measurements;
  return new Map([
    [0, pcr0],
    [1, pcr1],
    [2, pcr2],
    [8, pcr8],
  ]);
}

async function registersOfFile(path: string): Promise<Map<number, Uint8Array>> {
  const registers = parseRegisters(await readSmallFile(path, REGISTERS_FILE_MAX_BYTES));
  return new Map([...registers].map(([index, hex]) => [index, Buffer.from(hex, 'hex')]));
}

/** 0 to 15 are in every document; what nobody extended is zero. PCR4, the instance, is not known here. */
function withSurroundings(
  registers: ReadonlyMap<number, Uint8Array>,
  { arn }: CallerIdentity,
): Map<number, Uint8Array> {
  const whole = new Map([5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15].map((index) => [index, zeroPcr()] as const));
  if (arn.includes(':role/')) whole.set(3, pcrOfText(arn));
  return new Map([...whole, ...registers]);
}

/** Genuine at its own time: KMS takes it while its certificates live, and refuses any other whatever a policy says. */
async function registersOfDocument(
  path: string,
  root: string | undefined,
): Promise<ReadonlyMap<number, Uint8Array>> {
  const document = parseAttestationDocument(fromBase64(await readSmallFile(path, DOCUMENT_FILE_MAX_BYTES)));
  const anchor =
    root === undefined
      ? awsNitroAnchor()
      : simulationAnchor(pemOrDer(await readSmallFile(root, ROOT_MAX_BYTES)));
  const at = new Date(document.untrusted.timestampMs);
  return verifyAttestationDocument(document, { anchors: [anchor], at }).fields.pcrs;
}

function pemOrDer(bytes: Uint8Array): string | Uint8Array {
  const text = Buffer.from(bytes).toString('latin1');
  return text.trimStart().startsWith('-----BEGIN') ? text : bytes;
}

/** A document begins with 84 or d2, which base64 text never does. */
function fromBase64(bytes: Uint8Array): Uint8Array {
  const text = Buffer.from(bytes).toString('latin1').trim();
  return /^[A-Za-z0-9+/\s]+={0,2}$/.test(text) ? Buffer.from(text, 'base64') : bytes;
}

/** `NAME=VALUE`; names may be repeated if several values are. Throws CommandError USAGE. */
export function pairs(option: string, texts: readonly string[]): [name: string, value: string][] {
  return texts.map((text) => {
    const at = text.indexOf('=');
    if (at < 1) throw new CommandError('USAGE', `--${option} takes NAME=VALUE, not ${JSON.stringify(text)}.`);
    return [text.slice(0, at), text.slice(at + 1)];
  });
}

const DERIVED: readonly (readonly [pattern: RegExp, from: string])[] = [
  [/^aws:(principal(arn|account|type|isawsservice)|userid|username)$/i, '--principal'],
  [/^aws:principaltag\//i, '--principal-tag'],
  [/^kms:calleraccount$/i, '--principal'],
  [/^aws:resourceaccount$/i, '--key'],
  [/^kms:encryptioncontext(:|keys$)/i, '--encryption-context'],
  [/^kms:recipientattestation:/i, '--attestation, --image or --pcrs'],
];

/** Condition keys that KMS takes from the request itself. Throws CommandError USAGE for those that others derive. */
export function conditionKeys(texts: readonly string[]): Map<string, readonly string[]> {
  const keys = new Map<string, readonly string[]>();
  for (const [name, value] of pairs('condition-key', texts)) {
    const derived = DERIVED.find(([pattern]) => pattern.test(name));
    if (derived !== undefined)
      throw new CommandError('USAGE', `${name} follows from ${derived[1]}; give that instead.`);
    keys.set(name, [...(keys.get(name) ?? []), value]);
  }
  return keys;
}

const TIME_KEY = /^aws:(?:currenttime|epochtime)$/i;

/** The keys with both spellings of the request's one time: what is given of it, or now. Throws CommandError USAGE. */
export function withTime(
  keys: ReadonlyMap<string, readonly string[]>,
  now: Date,
): Map<string, readonly string[]> {
  const [given, ...more] = [...keys].flatMap(([name, values]) => (TIME_KEY.test(name) ? values : []));
  const ms = given === undefined ? Math.floor(now.getTime() / 1000) * 1000 : parseDate(given);
  if (Number.isNaN(ms) || more.length > 0) {
    throw new CommandError(
      'USAGE',
      `A request has one time: give aws:CurrentTime or aws:EpochTime once, as 2027-01-31T12:00:00Z or in seconds since 1970.`,
    );
  }
  return new Map([...[...keys].filter(([name]) => !TIME_KEY.test(name)), ...timeContext(new Date(ms))]);
}
