/** Requests of the search, as a report shows them. */

import { asciiLower } from '../../../shared/policy/glob.ts';
import type { Decision } from '../../../shared/policy/model.ts';
import { isAttestationKey, shownRegister, ZERO } from '../attestation-keys.ts';
import type { DecidedBy, Witness, WitnessAttestation, WitnessPrincipal } from '../report.ts';
import type { Allowed } from '../requests/ask.ts';
import type { Attestation } from '../requests/attestations.ts';
import type { Caller } from '../requests/callers.ts';

export function witnessOf(found: Omit<Allowed, 'source' | 'reach'>, then: string | null = null): Witness {
  const { question, request, decision, registers } = found;
  const { caller, attestation } = question;
  return {
    principal: principalOf(caller, request.principal.tags),
    action: request.action,
    keyArn: request.keyArn,
    attestation: attestation === undefined ? null : attestationOf(attestation, registers),
    context: Object.fromEntries(
      [...(request.context ?? [])]
        .filter(([key]) => !isAttestationKey(key))
        .map(([key, values]) => [spelled(key), values]),
    ),
    encryptionContext: Object.fromEntries(request.encryptionContext ?? []),
    answer: decision.allowed ? 'allow' : 'deny',
    decidedBy: decidedBy(decision),
    then,
  };
}

function principalOf(caller: Caller, tags: ReadonlyMap<string, string> | undefined): WitnessPrincipal {
  const { arn, sessionArn, accountId } = caller.identity;
  return {
    name: caller.name,
    arn,
    sessionArn: sessionArn ?? null,
    accountId,
    tags: Object.fromEntries(tags ?? []),
    identityPolicies: caller.documents,
    identityPoliciesFrom: caller.iamFrom,
  };
}

function attestationOf(
  { name, platform }: Attestation,
  registers: Readonly<Record<string, string>>,
): WitnessAttestation {
  const shown = Object.entries(registers).filter(
    ([register, value]) => value !== ZERO || /^pcr[0-2]$/.test(register),
  );
  return {
    name,
    platform,
    registers: Object.fromEntries(
      shown.map(([register, value]) => [shownRegister(register).replace('NitroTPM', ''), value]),
    ),
  };
}

/** Every request has a time; one that is made at once needs none to be told. `at` is the review's, ISO 8601. */
export function isAtOnce(key: string, values: readonly string[], at: string): boolean {
  return key === 'aws:CurrentTime' && values[0] === `${at.slice(0, 19)}Z`;
}

export function decidedBy({ decisive }: Decision): DecidedBy[] {
  return decisive.map(({ policy, statement, line }) => ({
    policy,
    statement: statement === '' ? null : statement,
    line: line === 0 ? null : line,
  }));
}

const SPELLINGS: ReadonlyMap<string, string> = new Map(
  [
    'aws:SecureTransport',
    'aws:RequestedRegion',
    'aws:CurrentTime',
    'aws:EpochTime',
    'aws:MultiFactorAuthPresent',
    'aws:SourceIp',
    'aws:SourceVpce',
    'kms:ViaService',
    'kms:KeyOrigin',
    'kms:KeyUsage',
    'kms:KeySpec',
    'kms:MultiRegion',
    'kms:GrantOperations',
    'kms:GrantIsForAWSResource',
    'kms:GranteePrincipal',
    'kms:ReEncryptOnSameKey',
  ].map((name) => [asciiLower(name), name]),
);

function spelled(key: string): string {
  return SPELLINGS.get(asciiLower(key)) ?? key;
}
