/**
 * Every probe of the labelled policies: a request and the answer that KMS gives to it. The documents marked
 * `refuse-policy` must be refused. The runner takes principals and attestations from the vectors themselves, so that
 * further vectors of the same kinds run without a change here.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { expect, it } from 'vitest';
import { nameInArn } from '../../../shared/policy/arn.ts';
import { decide } from '../../../shared/policy/decide.ts';
import { PolicyError } from '../../../shared/policy/errors.ts';
import { parseGrant } from '../../../shared/policy/grants.ts';
import type { CallerIdentity, Policy, PolicyRequest } from '../../../shared/policy/model.ts';
import { parsePolicy } from '../../../shared/policy/parse.ts';
import { describeWithVectors } from '../../vectors.ts';
import { bytesOf } from './helpers.ts';

interface Probe {
  readonly principal: string;
  readonly action: string;
  readonly attestation: string;
  readonly expect: 'allow' | 'deny';
  readonly label?: string;
  readonly context?: Readonly<Record<string, string | boolean | number | readonly string[]>>;
}

interface Vector {
  readonly id: string;
  readonly file: string;
  readonly title: string;
  readonly probes: readonly Probe[] | 'refuse-policy';
  readonly requestContext?: Probe['context'];
}

interface Expected {
  readonly key: string;
  readonly principals: Readonly<Record<string, string>>;
  readonly attestations: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly nitroTpm: Readonly<Record<string, string>>;
  readonly vectors: readonly Vector[];
}

interface Context {
  readonly iamPolicies?: Readonly<Record<string, unknown>>;
  readonly grants?: readonly unknown[];
}

interface Caller {
  readonly identity: CallerIdentity;
  readonly hasIamAll: boolean;
}

const IAM_ALL = parsePolicy(
  bytesOf({ Version: '2012-10-17', Statement: { Effect: 'Allow', Action: 'kms:*', Resource: '*' } }),
  'identity',
);

describeWithVectors('labelled key policies', (folder) => {
  const policies = join(folder, 'policies');
  const expected = JSON.parse(readFileSync(join(policies, 'expected.json'), 'utf8')) as Expected;
  const callers = new Map(Object.keys(expected.principals).map((name) => [name, callerOf(expected, name)]));

  for (const vector of expected.vectors) {
    const bytes = readFileSync(join(policies, vector.file));
    if (vector.probes === 'refuse-policy') {
      it(`${vector.id} is refused: ${vector.title}`, () => {
        expect(() => parsePolicy(bytes, 'key')).toThrow(PolicyError);
      });
      continue;
    }
    const probes = vector.probes;
    it(`${vector.id} answers its ${probes.length} probes: ${vector.title}`, () => {
      const keyPolicy = parsePolicy(bytes, 'key');
      const contextFile = join(policies, 'context', `${vector.id}.json`);
      const supplied: Context = existsSync(contextFile) ? JSON.parse(readFileSync(contextFile, 'utf8')) : {};
      const grants = (supplied.grants ?? []).map(parseGrant);
      const wrong = probes.filter((probe) => {
        const caller = callers.get(probe.principal);
        if (caller === undefined) throw new Error(`${vector.id}: unknown principal ${probe.principal}`);
        const request = requestOf(expected, vector, probe, caller.identity);
        const identityPolicies = iamPoliciesOf(caller, supplied, expected.key);
        const { allowed } = decide(request, { keyPolicy, identityPolicies, grants });
        return allowed !== (probe.expect === 'allow');
      });
      expect(wrong).toEqual([]);
    });
  }

  const unlabelled = join(policies, 'unlabelled');
  for (const file of existsSync(unlabelled) ? readdirSync(unlabelled) : []) {
    it(`${basename(file, '.json')} (unlabelled) is read, and every answer says why`, () => {
      const keyPolicy = parsePolicy(readFileSync(join(unlabelled, file)), 'key');
      for (const { identity } of callers.values()) {
        const request = { principal: identity, action: 'kms:Decrypt', keyArn: expected.key };
        const decision = decide(request, { keyPolicy, identityPolicies: [], grants: [] });
        expect(decision.explanation.length).toBeGreaterThan(0);
        expect(decision.allowed).toBe(decision.decisive.length > 0 && decision.reason === 'allow');
      }
    });
  }
});

/** Reads "host role, session i-0ff…", "arn… with IAM Allow kms:* on *", "host with principal tag k = PCR0 of X". */
function callerOf(expected: Expected, name: string): Caller {
  const text = expected.principals[name] ?? '';
  const base = /^(\w+) (?:role, session|with principal tag)/.exec(text)?.[1];
  const arn = /^(arn:\S+)/.exec(base === undefined ? text : (expected.principals[base] ?? ''))?.[1] ?? '';
  const session =
    /session (\S+)$/.exec(text)?.[1] ?? (name.startsWith('host') ? 'i-0abcdef1234567890' : 'session');
  const accountId = arn.split(':')[4] ?? '';
  const tag = /principal tag (\S+) = (PCR\d+) of (\w+)/.exec(text);
  const tagValue = tag ? expected.attestations[tag[3] ?? '']?.[tag[2] ?? ''] : undefined;
  return {
    identity: {
      arn,
      accountId,
      ...(arn.includes(':role/')
        ? { sessionArn: `arn:aws:sts::${accountId}:assumed-role/${nameInArn(arn)}/${session}` }
        : {}),
      ...(tag && tagValue !== undefined ? { tags: new Map([[tag[1] ?? '', tagValue]]) } : {}),
    },
    hasIamAll: /with IAM Allow kms:\* on \*/.test(text),
  };
}

function iamPoliciesOf({ identity, hasIamAll }: Caller, supplied: Context, keyArn: string): Policy[] {
  const own = keyArn.includes(`:${identity.accountId}:`)
    ? [supplied.iamPolicies?.[nameInArn(identity.arn)] ?? []].flat()
    : [];
  return [...own.map((policy) => parsePolicy(bytesOf(policy), 'identity')), ...(hasIamAll ? [IAM_ALL] : [])];
}

function requestOf(
  expected: Expected,
  vector: Vector,
  probe: Probe,
  principal: CallerIdentity,
): PolicyRequest {
  const context = new Map<string, readonly string[]>([['aws:SecureTransport', ['true']]]);
  const encryptionContext = new Map<string, string>();
  const tags = new Map(principal.tags);
  const set = (entries: Probe['context']) => {
    for (const [key, value] of Object.entries(entries ?? {})) {
      const list = [value].flat().map(String);
      const [first = ''] = list;
      const pair = /^kms:EncryptionContext:(.*)$/is.exec(key)?.[1];
      const tag = /^aws:PrincipalTag\/(.*)$/is.exec(key)?.[1];
      if (pair !== undefined) encryptionContext.set(pair, first);
      else if (tag !== undefined) tags.set(tag, first);
      else if (/^kms:EncryptionContextKeys$/i.test(key)) {
        for (const name of list) encryptionContext.set(name, encryptionContext.get(name) ?? '');
      } else context.set(key, list);
    }
  };
  if (/^kms:ReEncrypt/.test(probe.action)) set({ 'kms:ReEncryptOnSameKey': 'false' });
  if (probe.action === 'kms:CreateGrant') {
    set({ 'kms:GrantOperations': ['Decrypt', 'Encrypt'], 'kms:GrantIsForAWSResource': 'false' });
  }
  set(vector.requestContext);
  set(probe.context);
  for (const [key, value] of attestationEntries(expected, probe.attestation)) context.set(key, [value]);
  const caller = { ...principal, tags };
  return { principal: caller, action: probe.action, keyArn: expected.key, context, encryptionContext };
}

function attestationEntries(expected: Expected, name: string): [string, string][] {
  if (name === 'none') return [];
  const registers = expected.attestations[name] ?? (name === 'nitroTpm' ? expected.nitroTpm : undefined);
  if (registers === undefined) throw new Error(`unknown attestation ${name}`);
  const zero = '0'.repeat(96);
  const isEnclave = registers.PCR0 !== undefined;
  const constant = !isEnclave ? [] : [5, 6, 7, 9, 10, 11, 12, 13, 14, 15].map((n) => [`PCR${n}`, zero]);
  const image = registers.PCR0 === undefined ? [] : [['ImageSha384', registers.PCR0]];
  return [...constant, ...Object.entries(registers), ...image].map(([register, value]) => [
    `kms:RecipientAttestation:${register}`,
    value ?? '',
  ]);
}
