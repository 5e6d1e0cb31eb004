import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PolicyError } from '../../../shared/policy/errors.ts';
import { globMatches } from '../../../shared/policy/glob.ts';
import { KMS_ACTIONS } from '../../../shared/policy/kms-data.ts';
import { parsePolicy } from '../../../shared/policy/parse.ts';
import {
  ACCOUNT,
  type Ask,
  ask,
  attestedAs,
  bytesOf,
  HOST,
  keyPolicy,
  OPERATOR,
  OTHER_PCR0,
  PCR0,
  ROOT_USER,
} from './helpers.ts';

const numRuns = 200;
const KEY = 'kms:RecipientAttestation:PCR0';

const principal = fc.constantFrom(
  '*',
  { AWS: HOST.arn },
  { AWS: OPERATOR.arn },
  { AWS: ACCOUNT },
  { AWS: HOST.sessionArn },
);
const condition = fc.constantFrom(
  {},
  { StringEquals: { [KEY]: PCR0 } },
  { StringNotEquals: { [KEY]: PCR0 } },
  { Null: { [KEY]: 'true' } },
  { 'ForAllValues:StringLike': { [KEY]: 'd9*' } },
  { StringEqualsIfExists: { 'kms:ViaService': 's3' } },
);
const statement = fc.record({
  Effect: fc.constantFrom('Allow', 'Deny'),
  Principal: principal,
  Action: fc.constantFrom('kms:*', 'kms:Decrypt', 'kms:De*', 'kms:Encrypt'),
  Condition: condition,
});
const request: fc.Arbitrary<Ask> = fc.record({
  principal: fc.constantFrom(HOST, OPERATOR, ROOT_USER),
  action: fc.constantFrom('kms:Decrypt', 'kms:Encrypt', 'kms:DescribeKey'),
  context: fc.constantFrom(new Map<string, string[]>(), attestedAs(PCR0), attestedAs(OTHER_PCR0)),
  iam: fc.constantFrom([], [{ Statement: { Effect: 'Allow', Action: 'kms:*', Resource: '*' } }]),
});
const statements = fc.array(statement, { minLength: 1, maxLength: 5 });

describe('whatever the policy', () => {
  it('an unconditional Deny for everyone wins', () => {
    fc.assert(
      fc.property(statements, request, fc.nat(5), (list, one, at) => {
        const denied = list.toSpliced(at, 0, {
          Effect: 'Deny',
          Principal: '*',
          Action: 'kms:*',
          Condition: {},
        });
        expect(ask(keyPolicy(denied), one).reason).toBe('explicit-deny');
      }),
      { numRuns },
    );
  });

  it('a statement for other principals, actions, resources or values changes nothing', () => {
    const idle = fc.constantFrom(
      { Principal: { AWS: `arn:aws:iam::${ACCOUNT}:role/Nobody` }, Action: 'kms:*' },
      { Principal: '*', Action: 'kms:Sign' },
      { Principal: '*', Action: 'kms:*', Resource: 'arn:aws:kms:eu-central-1:111122223333:alias/a' },
      { Principal: '*', Action: 'kms:*', Condition: { StringEquals: { [KEY]: 'ff' } } },
    );
    fc.assert(
      fc.property(statements, request, idle, fc.constantFrom('Allow', 'Deny'), (list, one, extra, Effect) => {
        const before = ask(keyPolicy(list), one);
        const after = ask(keyPolicy([...list, { ...extra, Effect }]), one);
        expect([after.allowed, after.reason]).toEqual([before.allowed, before.reason]);
      }),
      { numRuns },
    );
  });

  it('the order of statements does not matter', () => {
    fc.assert(
      fc.property(statements, request, (list, one) => {
        expect(ask(keyPolicy(list.toReversed()), one).reason).toBe(ask(keyPolicy(list), one).reason);
      }),
      { numRuns },
    );
  });

  it('a further Allow never refuses, a further Deny never allows', () => {
    fc.assert(
      fc.property(statements, statement, request, (list, extra, one) => {
        const before = ask(keyPolicy(list), one).allowed;
        const allow = ask(keyPolicy([...list, { ...extra, Effect: 'Allow' }]), one).allowed;
        const deny = ask(keyPolicy([...list, { ...extra, Effect: 'Deny' }]), one).allowed;
        expect(allow || !before).toBe(true);
        expect(deny && !before).toBe(false);
      }),
      { numRuns },
    );
  });

  it('every refusal is explained, every permission names what decided', () => {
    fc.assert(
      fc.property(statements, request, (list, one) => {
        const { allowed, decisive, explanation } = ask(keyPolicy(list), one);
        expect(explanation.length).toBeGreaterThan(0);
        if (allowed) expect(decisive.length).toBeGreaterThan(0);
      }),
      { numRuns },
    );
  });
});

describe('parsing', () => {
  const only = (bytes: Uint8Array, kind: 'key' | 'identity') => {
    try {
      parsePolicy(bytes, kind);
    } catch (error) {
      expect(error).toBeInstanceOf(PolicyError);
    }
  };

  it('throws PolicyError and nothing else on any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => only(bytes, 'key')),
      { numRuns },
    );
  });

  it('throws PolicyError and nothing else on any JSON in place of any element', () => {
    const path = fc.constantFrom(
      'Version',
      'Id',
      'Statement',
      'Sid',
      'Effect',
      'Principal',
      'Action',
      'Resource',
      'Condition',
    );
    fc.assert(
      fc.property(
        path,
        fc.jsonValue(),
        fc.constantFrom('key' as const, 'identity' as const),
        (name, value, kind) => {
          const top = ['Version', 'Id', 'Statement'].includes(name);
          const document = keyPolicy([top ? {} : { [name]: value }]) as object;
          only(bytesOf(top ? { ...document, [name]: value } : document), kind);
        },
      ),
      { numRuns: 500 },
    );
  });

  it('never lets a damaged document allow more than the whole one', () => {
    const bytes = bytesOf(keyPolicy([{ Condition: { StringEquals: { [KEY]: PCR0 } } }]));
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const damaged = Uint8Array.from(bytes);
        damaged[at] = (damaged[at] ?? 0) ^ flip;
        try {
          expect(
            ask(Buffer.from(damaged).toString('latin1'), { context: attestedAs(OTHER_PCR0) }).allowed,
          ).toBe(false);
        } catch (error) {
          expect(error).toBeInstanceOf(PolicyError);
        }
      }),
      { numRuns },
    );
  });
});

describe('wildcards', () => {
  it('agree with a regular expression', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '*', '?', '.', '😀'), maxLength: 12 });
    fc.assert(
      fc.property(text, text, (pattern, input) => {
        const source = [...pattern]
          .map((c) => (c === '*' ? '.*' : c === '?' ? '.' : c === '.' ? '\\.' : c))
          .join('');
        expect(globMatches(pattern, input)).toBe(new RegExp(`^${source}$`, 'su').test(input));
      }),
      { numRuns: 1000 },
    );
  });

  it('cost no more than pattern times text, however they are nested', () => {
    expect(globMatches(`${'*a'.repeat(2000)}b`, 'a'.repeat(4000))).toBe(false);
  });

  it('in actions never reach another service', () => {
    for (const { name } of KMS_ACTIONS) {
      expect(ask(keyPolicy([{ Action: 's3:*' }]), { action: `kms:${name}` }).allowed).toBe(false);
    }
  });
});
