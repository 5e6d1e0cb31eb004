/**
 * One record of CloudTrail (user guide, "Record contents"; KMS developer guide, "Monitoring requests for Nitro
 * enclaves"), as far as a review needs it. Members that are not read here may be anything; those that are must be of
 * their type, or the record is refused: a reader that guesses can be talked into a guess.
 */
import { isAscii, isUtf8 } from 'node:buffer';
import { parseStrictJson } from '../../shared/json.ts';
import { PCR_COUNT } from '../../shared/pcr.ts';
import { TrailError } from './errors.ts';
import { type RawRecord, RECORD_MAX_BYTES } from './record-scanner.ts';

export interface TrailEvent {
  /** `Decrypt` */
  readonly name: string;
  readonly atMs: number;
  readonly id: string;
  readonly caller: TrailCaller;
  /** Key ARNs and ids that the record names, wherever it does. */
  readonly keys: readonly string[];
  readonly parameters: Members;
  readonly recipient: TrailRecipient | undefined;
  /** Undefined: answered. */
  readonly error: { readonly code: string; readonly message: string } | undefined;
  readonly readOnly: boolean;
  /** KMS itself did it, as with rotations. */
  readonly byService: boolean;
  readonly sourceAddress: string;
  /** The simulated KMS says why it refused; AWS never does. */
  readonly explanation: string | undefined;
}

export interface TrailCaller {
  /** Role, user or root ARN; the role of a session. A service's name where a service calls. `unknown`. */
  readonly arn: string;
  readonly session: string | undefined;
  readonly accountId: string | undefined;
  /** The service through which the call came: `s3.amazonaws.com`. */
  readonly invokedBy: string | undefined;
}

export interface TrailRecipient {
  readonly moduleId: string;
  /** By index, 96 hex digits: PCR0 to 4 and 8, as far as they are there. CloudTrail shows no other. */
  readonly pcrs: ReadonlyMap<number, string>;
}

export type Members = Readonly<Record<string, unknown>>;

const KMS = 'kms.amazonaws.com';
const KMS_TEXT = Buffer.from(KMS);
const UNICODE_ESCAPE = Buffer.from('\\u');

/**
 * The event, or undefined for one of another service. Throws TrailError TRAIL_RECORD. A record that does not even
 * contain the name of KMS is not parsed: trails hold everything that happens in an account.
 */
export function readEvent({ bytes, members }: RawRecord): TrailEvent | undefined {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  // The name could be spelt with escapes; then only parsing tells.
  if (!text.includes(KMS_TEXT) && !text.includes(UNICODE_ESCAPE)) return undefined;
  const record = parse(text, members);
  if (typeof record.CloudTrailEvent !== 'string') return eventOf(record);
  return eventOf(parseInner(record.CloudTrailEvent));
}

function parse(text: Buffer, members: number): Members {
  let value: unknown;
  try {
    if (isAscii(text)) value = JSON.parse(text.toString('latin1'));
    else {
      if (!isUtf8(text)) throw refused('the text is not UTF-8');
      value = JSON.parse(text.toString('utf8'));
    }
  } catch (cause) {
    if (cause instanceof TrailError) throw cause;
    throw refused(`not JSON: ${cause instanceof Error ? cause.message.slice(0, 200) : ''}`, cause);
  }
  if (membersIn(value) !== members) throw refused('a member is repeated');
  return object(value, 'the record');
}

/** `lookup-events` holds the record as text in its own. */
function parseInner(text: string): Members {
  try {
    const limits = { maxBytes: RECORD_MAX_BYTES, maxDepth: 64 };
    return object(parseStrictJson(Buffer.from(text), limits).value, 'CloudTrailEvent');
  } catch (cause) {
    if (cause instanceof TrailError) throw cause;
    throw refused(`CloudTrailEvent: ${cause instanceof Error ? cause.message : ''}`, cause);
  }
}

/** Depth is bounded by the scanner. */
function membersIn(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  let count = 0;
  if (Array.isArray(value)) {
    for (const entry of value) if (typeof entry === 'object') count += membersIn(entry);
    return count;
  }
  for (const name in value) {
    count++;
    const member = (value as Record<string, unknown>)[name];
    if (typeof member === 'object') count += membersIn(member);
  }
  return count;
}

function eventOf(record: Members): TrailEvent | undefined {
  const { eventSource, eventName } = record;
  if (eventSource === undefined && eventName === undefined) return undefined;
  if (text(eventSource, 'eventSource') !== KMS) return undefined;
  const parameters = optional(record.requestParameters, 'requestParameters') ?? {};
  const details = optional(record.serviceEventDetails, 'serviceEventDetails') ?? {};
  const errorCode = optionalText(record.errorCode, 'errorCode');
  const errorMessage = optionalText(record.errorMessage, 'errorMessage') ?? '';
  return {
    name: text(eventName, 'eventName'),
    atMs: time(record.eventTime),
    id: optionalText(record.eventID, 'eventID') ?? '',
    caller: callerOf(optional(record.userIdentity, 'userIdentity') ?? {}),
    keys: keysOf(record.resources, parameters, details, errorMessage),
    parameters,
    recipient: recipientOf(optional(record.additionalEventData, 'additionalEventData')?.recipient),
    error: errorCode === undefined ? undefined : { code: errorCode, message: errorMessage },
    readOnly: flag(record.readOnly, 'readOnly'),
    byService: optionalText(record.eventType, 'eventType') === 'AwsServiceEvent',
    sourceAddress: optionalText(record.sourceIPAddress, 'sourceIPAddress') ?? '',
    explanation: explanationOf(record.strongroom),
  };
}

/** UTC, to the second or finer: `2026-11-30T12:00:00Z`. */
function time(value: unknown): number {
  const atMs = typeof value === 'string' && TIME.test(value) ? Date.parse(value) : Number.NaN;
  if (Number.isNaN(atMs))
    throw refused(`eventTime: expected a time such as 2026-11-30T12:00:00Z, found ${shown(value)}`);
  return atMs;
}
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z$/;

function callerOf(identity: Members): TrailCaller {
  const arn = optionalText(identity.arn, 'userIdentity.arn');
  const invokedBy = optionalText(identity.invokedBy, 'userIdentity.invokedBy');
  const context = optional(identity.sessionContext, 'userIdentity.sessionContext');
  const issuer = optional(context?.sessionIssuer, 'sessionIssuer');
  const role = optionalText(issuer?.arn, 'sessionIssuer.arn');
  const isSession = arn?.includes(':assumed-role/') ?? false;
  return {
    arn: role ?? (isSession ? roleOfSession(arn as string) : arn) ?? invokedBy ?? 'unknown',
    session: isSession ? arn?.slice(arn.lastIndexOf('/') + 1) : undefined,
    accountId: optionalText(identity.accountId, 'userIdentity.accountId'),
    invokedBy,
  };
}

/** Without the issuer only the role's name is known, not its path. */
function roleOfSession(arn: string): string {
  return arn.replace(':sts:', ':iam:').replace(/:assumed-role\/([^/]+)\/.*$/, ':role/$1');
}

const ON_RESOURCE = /on resource: (arn:[^\s]+)/;

/** Refused calls often have neither resources nor parameters, but the message names the key. */
function keysOf(
  resources: unknown,
  parameters: Members,
  details: Members,
  errorMessage: string,
): readonly string[] {
  const keys: string[] = [];
  const add = (key: string | undefined) => {
    if (key !== undefined && !keys.includes(key)) keys.push(key);
  };
  if (resources !== undefined && resources !== null) {
    if (!Array.isArray(resources) || resources.length > RESOURCES_MAX) {
      throw refused(`resources: expected a list of at most ${RESOURCES_MAX}`);
    }
    for (const entry of resources) add(optionalText(object(entry, 'a resource').ARN, 'resources.ARN'));
  }
  for (const name of KEY_PARAMETERS) add(optionalText(parameters[name], name));
  add(optionalText(details.keyId, 'serviceEventDetails.keyId'));
  if (errorMessage !== '') add(ON_RESOURCE.exec(errorMessage)?.[1]);
  return keys;
}

/** An event of KMS has one, or two. */
const RESOURCES_MAX = 64;
const KEY_PARAMETERS = ['keyId', 'sourceKeyId', 'destinationKeyId', 'targetKeyId'];

/** Members of `recipient` that hold registers. */
const REGISTER_MEMBERS: ReadonlyMap<string, number> = new Map([
  ['attestationDocumentEnclaveImageDigest', 0],
  ...Array.from(
    { length: PCR_COUNT },
    (_, index) => [`attestationDocumentEnclavePCR${index}`, index] as const,
  ),
]);

function recipientOf(value: unknown): TrailRecipient | undefined {
  const recipient = optional(value, 'recipient');
  if (recipient === undefined) return undefined;
  const pcrs = new Map<number, string>();
  for (const name of Object.keys(recipient)) {
    const index = REGISTER_MEMBERS.get(name);
    if (index === undefined) continue;
    const register = registerOf(recipient[name], name);
    const other = pcrs.get(index);
    if (other !== undefined && other !== register) throw refused(`${name}: contradicts the image digest`);
    pcrs.set(index, register);
  }
  return { moduleId: optionalText(recipient.attestationDocumentModuleId, 'module id') ?? '', pcrs };
}

/** Images are few and records are many: what was read once need not be read again. */
const registers = new Map<string, string>();
const REGISTERS_KEPT = 1024;

/** CloudTrail writes base64; examples in AWS's documentation have hexadecimal digits. 48 bytes are never both. */
function registerOf(value: unknown, name: string): string {
  const known = registers.get(value as string);
  if (known !== undefined) return known;
  const register = readRegister(value);
  if (register === undefined) throw refused(`${name}: expected 48 bytes in base64, found ${shown(value)}`);
  if (registers.size < REGISTERS_KEPT) registers.set(value as string, register);
  return register;
}

function readRegister(value: unknown): string | undefined {
  if (typeof value !== 'string') return undefined;
  if (/^[0-9a-fA-F]{96}$/.test(value)) return value.toLowerCase();
  if (/^[A-Za-z0-9+/]{64}$/.test(value)) return Buffer.from(value, 'base64').toString('hex');
  return undefined;
}

function explanationOf(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { explanation } = value as { explanation?: unknown };
  const first: unknown = Array.isArray(explanation) ? explanation[0] : undefined;
  return typeof first === 'string' ? first : undefined;
}

function object(value: unknown, what: string): Members {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Members;
  throw refused(`${what}: expected an object, found ${shown(value)}`);
}

function optional(value: unknown, what: string): Members | undefined {
  return value === undefined || value === null ? undefined : object(value, what);
}

function text(value: unknown, what: string): string {
  if (typeof value === 'string') return value;
  throw refused(`${what}: expected text, found ${shown(value)}`);
}

function optionalText(value: unknown, what: string): string | undefined {
  return value === undefined || value === null ? undefined : text(value, what);
}

function flag(value: unknown, what: string): boolean {
  if (value === undefined || value === null) return false;
  if (typeof value === 'boolean') return value;
  // lookup-events has it as text outside of the record; older records inside.
  if (value === 'true' || value === 'false') return value === 'true';
  throw refused(`${what}: expected true or false, found ${shown(value)}`);
}

function shown(value: unknown): string {
  return value === undefined ? 'nothing' : (JSON.stringify(value) ?? typeof value).slice(0, 80);
}

function refused(found: string, cause?: unknown): TrailError {
  return new TrailError('TRAIL_RECORD', found, cause);
}
