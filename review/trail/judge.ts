/**
 * What one event means (docs/trail.md section 3): a use of the key that is as it should be, something to object to,
 * or something that only names. Starts from "object": what is not known to be harmless is a finding.
 */
import { pcrOfText } from '../../shared/pcr.ts';
import { nameOfRelease, type Release } from '../releases.ts';
import { type Severity, TRAIL_RULES, type TrailCode } from './codes.ts';
import type { TrailEvent, TrailRecipient } from './event.ts';

export interface TrailExpectations {
  /** Key ARNs or ids. Empty: every key that occurs. */
  readonly keys: readonly string[];
  /** Undefined: nobody said which images are known, so none can be judged. */
  readonly releases: readonly Release[] | undefined;
  /** Roles of the parent instances. Empty: not said; then PCR3 is only compared with the caller. */
  readonly hostRoleArns: readonly string[];
  /** Empty: not said; then every Encrypt is merely listed. */
  readonly sealerArns: readonly string[];
  /** Whose changes of the policy are expected, and so of medium severity. */
  readonly administratorArns: readonly string[];
}

/** Which row of the picture an event belongs to. */
export type Lane = 'attested' | 'unattested' | 'refused' | 'control' | 'other';

export interface Judgement {
  readonly lane: Lane;
  /** `strongroom 1.4.0`, `debug image`, `image 2e95b1d9…`; undefined without a document. */
  readonly image: string | undefined;
  readonly objection: Objection | undefined;
  /** True if only a release manifest could tell whether it is as it should be. */
  readonly undecided: boolean;
}

export interface Objection {
  readonly code: TrailCode;
  readonly severity: Severity;
  /** What is particular about this one: which register, which grantee, which error. */
  readonly detail: string;
}

const PLAINTEXT: ReadonlySet<string> = new Set(['Decrypt', 'DeriveSharedSecret']);
const DATA_KEYS: ReadonlySet<string> = new Set(['GenerateDataKey', 'GenerateDataKeyPair']);

/** Neither plaintext nor control of the key. */
const HARMLESS: ReadonlySet<string> = new Set([
  ...[
    'CreateKey',
    'GenerateRandom',
    'GenerateDataKeyWithoutPlaintext',
    'GenerateDataKeyPairWithoutPlaintext',
  ],
  ...['GenerateMac', 'VerifyMac', 'Sign', 'Verify', 'GetPublicKey'],
]);

const CONTROL: Readonly<Record<string, TrailCode>> = {
  PutKeyPolicy: 'policy-admin',
  CreateGrant: 'grant-escape',
  ReplicateKey: 'replica-escape',
  UpdatePrimaryRegion: 'replica-escape',
  ImportKeyMaterial: 'imported-material',
  DeleteImportedKeyMaterial: 'imported-material',
  DisableKey: 'availability',
  ScheduleKeyDeletion: 'availability',
  DeleteKey: 'availability',
  CreateAlias: 'alias-changed',
  UpdateAlias: 'alias-changed',
  DeleteAlias: 'alias-changed',
  CancelKeyDeletion: 'key-changed',
  EnableKey: 'key-changed',
  EnableKeyRotation: 'key-changed',
  DisableKeyRotation: 'key-changed',
  RotateKeyOnDemand: 'key-changed',
  RotateKey: 'key-changed',
  RetireGrant: 'key-changed',
  RevokeGrant: 'key-changed',
  SynchronizeMultiRegionKey: 'key-changed',
  TagResource: 'key-changed',
  UntagResource: 'key-changed',
  UpdateKeyDescription: 'key-changed',
};

/** What a grant can open by itself, or hand on. */
const OPENING_OPERATIONS =
  /^(Decrypt|DeriveSharedSecret|GenerateDataKey|GenerateDataKeyPair|ReEncryptFrom|CreateGrant)$/;

export function judge(event: TrailEvent, expected: TrailExpectations): Judgement {
  const image = imageOf(event.recipient, expected.releases);
  const { error } = event;
  // A dry run that stops with this error would have been answered.
  const answered = error === undefined || error.code === 'DryRunOperationException';
  if (!answered) return judgeRefusal(event, image);
  const judged = judgeAnswer(event, expected, image);
  if (error === undefined || judged.objection === undefined) return judged;
  const detail = join(judged.objection.detail, 'a dry run, which would have been answered');
  return { ...judged, objection: { ...judged.objection, detail } };
}

function judgeAnswer(
  event: TrailEvent,
  expected: TrailExpectations,
  image: KnownImage | undefined,
): Judgement {
  const { name } = event;
  if (PLAINTEXT.has(name) || DATA_KEYS.has(name)) {
    if (event.recipient === undefined) {
      const code = PLAINTEXT.has(name) ? 'unattested-plaintext' : 'unattested-datakey';
      const { invokedBy } = event.caller;
      return found('unattested', image, code, invokedBy === undefined ? '' : `through ${invokedBy}`);
    }
    return judgeAttested(event, event.recipient, expected, image as KnownImage);
  }
  if (name === 'ReEncrypt') return judgeReEncrypt(event, expected, image);
  if (name === 'Encrypt') {
    const expectedSealer = expected.sealerArns.length === 0 || expected.sealerArns.includes(event.caller.arn);
    return expectedSealer ? plain('other', image) : found('other', image, 'integrity-encrypt');
  }
  const code = Object.hasOwn(CONTROL, name) ? CONTROL[name] : undefined;
  if (code !== undefined) return judgeControl(event, expected, image, code);
  if (HARMLESS.has(name) || event.readOnly) return plain('other', image);
  return found('control', image, 'unknown-operation', event.name);
}

function judgeAttested(
  event: TrailEvent,
  recipient: TrailRecipient,
  expected: TrailExpectations,
  image: KnownImage,
): Judgement {
  const object = (code: TrailCode, detail = ''): Judgement => found('attested', image, code, detail);
  if (image.kind === 'no-enclave') return object('other-platform');
  if (image.kind === 'debug') return object('debug-image');
  if (isOtherAccount(event)) return object('external-account', `account ${event.caller.accountId}`);
  if (image.kind === 'unknown') return object('unknown-image', `PCR0 ${image.pcr0}`);
  const wrongRole = faultOfRole(event, recipient, expected.hostRoleArns);
  if (image.kind === 'unnamed') {
    return wrongRole === undefined
      ? { lane: 'attested', image: image.name, objection: undefined, undecided: true }
      : object('wrong-role', wrongRole);
  }
  const different = differingRegister(recipient, image.releases);
  if (different !== undefined) return object('registers-differ', different);
  const withdrawn = withdrawal(event, image.releases);
  if (withdrawn !== undefined) return object('withdrawn-image', withdrawn);
  if (wrongRole !== undefined) return object('wrong-role', wrongRole);
  const model = unexpectedModel(event, image.releases);
  if (model !== undefined) return object('unexpected-model', `model ${model}`);
  return plain('attested', image);
}

/** PCR3 is the role of the instance; the caller's role is that of the credentials. Both must be the hosts'. */
function faultOfRole(
  { caller }: TrailEvent,
  { pcrs }: TrailRecipient,
  hostRoleArns: readonly string[],
): string | undefined {
  if (hostRoleArns.length > 0 && !hostRoleArns.includes(caller.arn)) return `called as ${caller.arn}`;
  const pcr3 = pcrs.get(3);
  if (pcr3 === undefined) return undefined;
  const roles = hostRoleArns.length > 0 ? hostRoleArns : [caller.arn];
  return roles.some((arn) => pcr3OfRole(arn) === pcr3) ? undefined : `PCR3 ${pcr3} is of no expected role`;
}

const pcr3Cache = new Map<string, string>();
function pcr3OfRole(arn: string): string {
  let pcr3 = pcr3Cache.get(arn);
  if (pcr3 === undefined) {
    pcr3 = Buffer.from(pcrOfText(arn)).toString('hex');
    // Callers are whatever the records say; only so many are worth remembering.
    if (pcr3Cache.size < 1000) pcr3Cache.set(arn, pcr3);
  }
  return pcr3;
}

/** Registers that the image determines: PCR0 names the release, these must agree with it. */
function differingRegister({ pcrs }: TrailRecipient, releases: readonly Release[]): string | undefined {
  for (const index of [1, 2, 8] as const) {
    const found = pcrs.get(index);
    const wanted = releases.map((release) => release.pcrs[index] ?? (index === 8 ? ZERO : undefined));
    if (found !== undefined && !wanted.includes(found)) return `PCR${index} ${found}`;
  }
  return undefined;
}

const ZERO = '0'.repeat(96);

function withdrawal({ atMs }: TrailEvent, releases: readonly Release[]): string | undefined {
  const withdrawn = releases.map((release) => release.withdrawn);
  if (!withdrawn.every((one) => one !== undefined && one.at.getTime() <= atMs)) return undefined;
  return withdrawn[0]?.reason;
}

/** The model of a Strongroom wrap, if the manifests say which models were reviewed. */
function unexpectedModel({ parameters }: TrailEvent, releases: readonly Release[]): string | undefined {
  const context = parameters.encryptionContext;
  if (typeof context !== 'object' || context === null) return undefined;
  const model = (context as Record<string, unknown>)['strongroom-model'];
  if (typeof model !== 'string' || releases.some(({ deployments }) => deployments.length === 0))
    return undefined;
  const known = releases.some(({ deployments }) => deployments.some(({ models }) => models.includes(model)));
  return known ? undefined : model;
}

function judgeReEncrypt(
  event: TrailEvent,
  expected: TrailExpectations,
  image: KnownImage | undefined,
): Judgement {
  const { sourceKeyId: from, destinationKeyId: to } = event.parameters;
  if (typeof from !== 'string' || typeof to !== 'string') {
    return found('control', image, 'reencrypt-escape', 'the record does not say between which keys');
  }
  if (isSameKey(from, to)) return found('control', image, 'reencrypt-context');
  // Into the reviewed key: no plaintext leaves, but somebody made a wrap.
  const intoOurs = expected.keys.length > 0 && !expected.keys.some((key) => isSameKey(key, from));
  if (intoOurs) return found('control', image, 'integrity-encrypt', `from ${from}`);
  return found('control', image, 'reencrypt-escape', `to ${to}`);
}

function judgeControl(
  event: TrailEvent,
  expected: TrailExpectations,
  image: KnownImage | undefined,
  code: TrailCode,
): Judgement {
  const { parameters, caller } = event;
  if (code === 'grant-escape') {
    const { operations, granteePrincipal } = parameters;
    const list = Array.isArray(operations) ? operations.map(String) : [];
    const opens = list.length === 0 || list.some((name) => OPENING_OPERATIONS.test(name));
    const detail = `to ${String(granteePrincipal ?? 'somebody')} for ${list.join(', ') || 'operations not in the record'}`;
    return found('control', image, code, detail, opens ? 'high' : 'low');
  }
  if (code === 'policy-admin' && expected.administratorArns.includes(caller.arn)) {
    return found('control', image, code, 'by a known administrator', 'medium');
  }
  if (code === 'policy-admin' && parameters.bypassPolicyLockoutSafetyCheck === true) {
    return found('control', image, code, 'the lockout check was bypassed');
  }
  return found('control', image, code, code === 'key-changed' ? event.name : '');
}

/** Denied, rather than malformed, throttled or out of order. */
const DENIED = /^(AccessDenied|UnauthorizedOperation|UnrecognizedClient|Client\.Unauthorized)/;
/** Whose refusal is worth a question. */
const SOUGHT: ReadonlySet<string> = new Set([
  ...PLAINTEXT,
  ...DATA_KEYS,
  ...['ReEncrypt', 'CreateGrant', 'PutKeyPolicy', 'ReplicateKey', 'UpdatePrimaryRegion', 'ImportKeyMaterial'],
  ...['DisableKey', 'ScheduleKeyDeletion'],
]);

function judgeRefusal(event: TrailEvent, image: KnownImage | undefined): Judgement {
  const { code, message } = event.error as { code: string; message: string };
  const reason = join(code, event.explanation ?? message);
  const invalidDocument = code.startsWith('ValidationException') && /attestation/i.test(message);
  if (!DENIED.test(code) && !invalidDocument) return found('refused', image, 'failed-call', code);
  const known = image?.kind === 'known' && withdrawal(event, image.releases) === undefined;
  if (known && PLAINTEXT.has(event.name)) return found('refused', image, 'reviewed-image-refused', reason);
  return found('refused', image, 'refused-attempt', reason, SOUGHT.has(event.name) ? 'medium' : 'low');
}

function isOtherAccount({ caller, keys }: TrailEvent): boolean {
  const account = keys
    .map((key) => /^arn:[^:]+:kms:[^:]*:(\d{12}):/.exec(key)?.[1])
    .find((id) => id !== undefined);
  return account !== undefined && caller.accountId !== undefined && caller.accountId !== account;
}

export function isSameKey(a: string, b: string): boolean {
  return a === b || keyIdOf(a) === keyIdOf(b);
}

/** `1234abcd-…` of an ARN or of itself. An alias names itself only. */
export function keyIdOf(key: string): string {
  return key.startsWith('arn:') ? key.slice(key.indexOf(':key/') === -1 ? 0 : key.indexOf(':key/') + 5) : key;
}

type KnownImage =
  | {
      readonly kind: 'known';
      readonly name: string;
      readonly pcr0: string;
      readonly releases: readonly Release[];
    }
  | { readonly kind: 'unknown'; readonly name: string; readonly pcr0: string }
  | { readonly kind: 'unnamed'; readonly name: string; readonly pcr0: string }
  | { readonly kind: 'debug'; readonly name: string; readonly pcr0: string }
  | { readonly kind: 'no-enclave'; readonly name: string };

function imageOf(
  recipient: TrailRecipient | undefined,
  releases: readonly Release[] | undefined,
): KnownImage | undefined {
  if (recipient === undefined) return undefined;
  const pcr0 = recipient.pcrs.get(0);
  if (pcr0 === undefined) return { kind: 'no-enclave', name: 'no enclave' };
  if (pcr0 === ZERO) return { kind: 'debug', name: 'debug image', pcr0 };
  const name = `image ${pcr0.slice(0, 12)}…`;
  if (releases === undefined) return { kind: 'unnamed', name, pcr0 };
  const matching = releases.filter(({ pcrs }) => pcrs[0] === pcr0);
  if (matching.length === 0) return { kind: 'unknown', name, pcr0 };
  return { kind: 'known', name: matching.map(nameOfRelease).join(' / '), pcr0, releases: matching };
}

function plain(lane: Lane, image: KnownImage | undefined): Judgement {
  return { lane, image: image?.name, objection: undefined, undecided: false };
}

function found(
  lane: Lane,
  image: KnownImage | undefined,
  code: TrailCode,
  detail = '',
  severity: Severity = TRAIL_RULES[code].severity,
): Judgement {
  return { lane, image: image?.name, objection: { code, severity, detail }, undecided: false };
}

function join(...parts: readonly string[]): string {
  return parts.filter((part) => part !== '').join(': ');
}
