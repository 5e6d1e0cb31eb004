/**
 * Condition keys of a request (docs/policy.md section 4.3). What KMS derives from the authenticated caller, the key,
 * the encryption context and the attestation document is derived here, so that no caller of the engine can forget
 * or invent it.
 */

import { isAttestable, isGovernedByKeyPolicy } from './actions.ts';
import { accountOfRootArn, nameInArn, parseKeyArn } from './arn.ts';
import { asciiLower } from './glob.ts';
import type { PolicyRequest } from './model.ts';
import type { RequestContext } from './variables.ts';

const ATTESTATION_PREFIX = 'kms:recipientattestation:';
const ENCRYPTION_CONTEXT_PREFIX = 'kms:encryptioncontext:';
const ENCRYPTION_CONTEXT_KEYS = 'kms:encryptioncontextkeys';

/** Keys that only the engine may set: absent unless derived below. */
const DERIVED: ReadonlySet<string> = new Set([
  ENCRYPTION_CONTEXT_KEYS,
  'aws:principalarn',
  'aws:principalaccount',
  'aws:principaltype',
  'aws:principalisawsservice',
  'aws:userid',
  'aws:username',
  'aws:resourceaccount',
  'kms:calleraccount',
]);

/**
 * The entries that a verified attestation document of an enclave adds to a request: `kms:RecipientAttestation:PCRn`
 * in lower-case hex, and ImageSha384, which is PCR0. Pass only registers of a document that was verified.
 */
export function attestationContext(pcrs: ReadonlyMap<number, Uint8Array>): Map<string, readonly string[]> {
  const entries = registers(pcrs, 'PCR');
  const image = pcrs.get(0);
  if (image !== undefined) entries.set('kms:RecipientAttestation:ImageSha384', [hex(image)]);
  return entries;
}

/** The entries that every request has by the clock of AWS, to the second unless `at` is between two. */
export function timeContext(at: Date): [name: string, values: readonly string[]][] {
  return [
    ['aws:CurrentTime', [at.toISOString().replace(/\.000Z$/, 'Z')]],
    ['aws:EpochTime', [String(Math.floor(at.getTime() / 1000))]],
  ];
}

/** The same for a NitroTPM document of an instance: `kms:RecipientAttestation:NitroTPMPCRn`, no ImageSha384. */
export function nitroTpmAttestationContext(
  pcrs: ReadonlyMap<number, Uint8Array>,
): Map<string, readonly string[]> {
  return registers(pcrs, 'NitroTPMPCR');
}

function registers(pcrs: ReadonlyMap<number, Uint8Array>, name: string): Map<string, readonly string[]> {
  return new Map(
    [...pcrs].map(([index, value]) => [`kms:RecipientAttestation:${name}${index}`, [hex(value)]]),
  );
}

/** Every condition key of the request, names in lower case. Names that differ in case alone share their values. */
export function contextOf(request: PolicyRequest): RequestContext {
  const context = new Map<string, readonly string[]>();
  const add = (name: string, ...values: readonly string[]) => {
    const key = asciiLower(name);
    context.set(key, [...(context.get(key) ?? []), ...values]);
  };
  for (const [name, values] of request.context ?? []) {
    if (!isDerived(asciiLower(name), request.action)) add(name, ...values);
  }
  for (const [key, value] of request.encryptionContext ?? []) {
    add(`${ENCRYPTION_CONTEXT_PREFIX}${key}`, value);
    add(ENCRYPTION_CONTEXT_KEYS, key);
  }
  addCaller(request, add);
  if (isGovernedByKeyPolicy(request.action)) {
    const key = parseKeyArn(request.keyArn);
    if (key !== undefined) add('aws:ResourceAccount', key.accountId);
  }
  if (!context.has('aws:viaawsservice')) add('aws:ViaAWSService', String(context.has('kms:viaservice')));
  return context;
}

function isDerived(name: string, action: string): boolean {
  if (name.startsWith(ATTESTATION_PREFIX)) return !isAttestable(action);
  return (
    DERIVED.has(name) || name.startsWith(ENCRYPTION_CONTEXT_PREFIX) || name.startsWith('aws:principaltag/')
  );
}

function addCaller({ principal }: PolicyRequest, add: (name: string, ...values: string[]) => void): void {
  const { arn, sessionArn, accountId, uniqueId, tags } = principal;
  const isRoot = accountOfRootArn(arn) !== undefined;
  const isUser = arn.includes(':user/');
  // The role's ARN, for its sessions too: the session's own ARN never appears under this key.
  add('aws:PrincipalArn', arn);
  add('aws:PrincipalAccount', accountId);
  add('kms:CallerAccount', accountId);
  add('aws:PrincipalIsAWSService', 'false');
  const type = isRoot
    ? 'Account'
    : isUser
      ? 'User'
      : arn.includes(':role/')
        ? 'AssumedRole'
        : 'FederatedUser';
  add('aws:PrincipalType', type);
  if (isUser) add('aws:username', nameInArn(arn));
  const session = sessionArn?.slice(sessionArn.lastIndexOf('/') + 1);
  if (isRoot) add('aws:userid', accountId);
  else if (uniqueId !== undefined)
    add('aws:userid', session === undefined ? uniqueId : `${uniqueId}:${session}`);
  for (const [key, value] of tags ?? []) add(`aws:PrincipalTag/${key}`, value);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
