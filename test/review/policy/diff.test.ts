import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { diffPolicies, type PolicyChange } from '../../../review/policy/diff.ts';
import { diffSentence, diffText } from '../../../review/policy/diff-text.ts';
import { generateKeyPolicy, type KeyPolicyInput } from '../../../review/policy/generate.ts';
import { codeOf } from '../../../shared/errors.ts';
import { parsePolicy } from '../../../shared/policy/parse.ts';
import { describeWithVectors } from '../../vectors.ts';
import { NOW } from './support.ts';

const ROLE = 'arn:aws:iam::111122223333:role';
const release = { pcr0: 'd9'.repeat(48), pcr16: 'a1'.repeat(48), modelName: 'iris' };
const next = { pcr0: '6b'.repeat(48), pcr16: 'b2'.repeat(48), modelName: 'iris' };
const input: KeyPolicyInput = {
  accountId: '111122223333',
  releases: [release],
  hostRoleArn: `${ROLE}/EnclaveHost`,
  administratorArns: [`${ROLE}/KeyAdmin`],
  sealerArns: [`${ROLE}/Owner`],
};
const generated = (changes: Partial<KeyPolicyInput> = {}) => generateKeyPolicy({ ...input, ...changes });
interface Document {
  Statement: Record<string, unknown>[];
}
/** The generated policy, changed by hand. */
const edited = (change: (document: Document) => void): string => {
  const document = JSON.parse(generated()) as Document;
  change(document);
  return JSON.stringify(document);
};
const without = (sid: string) =>
  edited((document) => {
    document.Statement = document.Statement.filter(({ Sid }) => Sid !== sid);
  });
const withStatement = (...statements: object[]) =>
  edited((document) => {
    document.Statement.push(...(statements as Record<string, unknown>[]));
  });

const diff = (before: string, after: string) =>
  diffPolicies({
    before: parsePolicy(Buffer.from(before), 'key'),
    after: parsePolicy(Buffer.from(after), 'key'),
    reviewed: [],
    hostRoleArns: [],
    now: NOW,
  });
const changes = (before: string, after: string): string[] =>
  diff(before, after).changes.map(
    ({ direction, extent, principals, attestations, actions }) =>
      `${principals.join(', ')} ${direction} ${extent} ${actions.join(', ')} with ${attestations.join(', ')}`,
  );
const OTHER = `${ROLE}/Other`;
const IMAGE = 'the image d9d9d9d9d9d9…';
const NEXT = 'the image 6b6b6b6b6b6b…';

describe('between a policy and itself', () => {
  it('nothing changes', () => {
    const same = diff(generated(), generated());
    expect(same.changes).toEqual([]);
    expect(same.requests).toBeGreaterThan(50);
    expect(diffSentence(same)).toMatch(/^Nothing changes: \d+ requests of \d+ principals/);
  });

  it('nothing changes when statements are reordered and renamed, actions spelt otherwise, and lists turned round', () => {
    const turned = edited((document) => {
      document.Statement.reverse();
      for (const [index, statement] of document.Statement.entries()) {
        statement.Sid = `S${index}`;
        const actions = [statement.Action].flat() as string[];
        statement.Action = actions.map((name) => name.replace('kms:', 'KMS:').toUpperCase()).reverse();
      }
    });
    expect(changes(generated(), turned)).toEqual([]);
  });

  it('nothing changes by a statement that can never apply', () => {
    const dead = {
      Sid: 'Dead',
      Effect: 'Allow',
      Principal: { AWS: OTHER },
      Action: 'kms:Decrypt',
      Resource: '*',
      Condition: { StringEquals: { 'kms:RecipientAttestation:PCR0': 'short' } },
    };
    expect(changes(generated(), withStatement(dead))).toEqual([]);
  });
});

describe('what changes', () => {
  it('is a second image, while an upgrade runs, and the first when it is taken out', () => {
    const both = generated({ releases: [release, next] });
    expect(changes(generated(), both)).toEqual([`role EnclaveHost gained all kms:Decrypt with ${NEXT}`]);
    expect(changes(both, generated({ releases: [next] }))).toEqual([
      `role EnclaveHost lost all kms:Decrypt with ${IMAGE}`,
    ]);
  });

  it('is another deployment of the same image', () => {
    const found = changes(generated(), generated({ releases: [{ ...release, pcr16: next.pcr16 }] }));
    expect(found).toEqual([
      `role EnclaveHost gained some kms:Decrypt with ${IMAGE}`,
      `role EnclaveHost lost some kms:Decrypt with ${IMAGE}`,
    ]);
  });

  it('is a deployment more beside the first, and a mixture of two releases', () => {
    const lists = (pcr0s: string[], pcr16s: string[]) =>
      edited((document) => {
        for (const statement of document.Statement) {
          const conditions = Object.values(
            (statement.Condition ?? {}) as Record<string, Record<string, unknown>>,
          );
          for (const condition of conditions) {
            if ('kms:RecipientAttestation:PCR0' in condition)
              condition['kms:RecipientAttestation:PCR0'] = pcr0s;
            if ('kms:RecipientAttestation:PCR16' in condition)
              condition['kms:RecipientAttestation:PCR16'] = pcr16s;
          }
        }
      });
    const more = diff(generated(), lists([release.pcr0], [release.pcr16, next.pcr16])).changes;
    expect(more).toMatchObject([
      { direction: 'gained', extent: 'some', attestations: [IMAGE], actions: ['kms:Decrypt'] },
    ]);
    expect(more[0]?.witness.attestation?.registers.PCR16).toBe(next.pcr16);
    const mixed = diff(
      generated({ releases: [release, next] }),
      lists([release.pcr0, next.pcr0], [release.pcr16, next.pcr16]),
    ).changes;
    expect(mixed).toMatchObject([{ direction: 'gained', extent: 'some', attestations: [NEXT, IMAGE] }]);
  });

  it('is a model more, told by the request that shows it', () => {
    const [change, ...more] = diff(
      generated(),
      generated({ releases: [release, { ...release, modelName: 'mnist' }] }),
    ).changes as [PolicyChange, ...PolicyChange[]];
    expect(change).toMatchObject({
      direction: 'gained',
      extent: 'some',
      before: { answer: 'deny' },
      after: { answer: 'allow' },
    });
    expect([change, ...more].map(({ witness }) => witness.encryptionContext['strongroom-model'])).toEqual(
      [change, ...more].map(() => 'mnist'),
    );
  });

  it('is another host role', () => {
    const found = changes(generated(), generated({ hostRoleArn: OTHER }));
    expect(found).toHaveLength(2);
    expect(found[0]).toMatch(/^role Other gained all kms:Decrypt with the image d9d9d9d9d9d9…/);
    expect(found[1]).toMatch(/^role EnclaveHost lost all kms:Decrypt with the image d9d9d9d9d9d9…/);
  });

  it('is an administrator more', () => {
    const found = changes(
      generated(),
      generated({ administratorArns: [`${ROLE}/KeyAdmin`, `${ROLE}/Second`] }),
    );
    expect(found).toEqual([
      expect.stringMatching(/^role Second gained all kms:CancelKeyDeletion, .*kms:PutKeyPolicy.* with none$/),
    ]);
  });

  it('is plaintext for somebody without a document, named first', () => {
    const open = edited((document) => {
      document.Statement = document.Statement.filter(({ Effect }) => Effect === 'Allow');
      document.Statement.push({
        Effect: 'Allow',
        Principal: { AWS: OTHER },
        Action: ['kms:Decrypt', 'kms:DescribeKey'],
        Resource: '*',
      });
    });
    const [first] = changes(generated(), open);
    expect(first).toBe('role Other gained all kms:Decrypt, kms:DescribeKey with none');
    expect(diffSentence(diff(generated(), open))).toMatch(
      /^Role Other gains kms:Decrypt and kms:DescribeKey without attestation; /,
    );
  });

  it('is what an account statement hands to IAM', () => {
    const account = {
      Effect: 'Allow',
      Principal: { AWS: '111122223333' },
      Action: 'kms:CreateAlias',
      Resource: '*',
    };
    const found = changes(generated(), withStatement(account));
    expect(found.join()).toContain('root user');
    expect(found.join()).toContain('role AnyRole with kms:* in IAM');
    expect(found.join()).not.toContain('role AnyRole,');
  });

  it('is a Deny that is gone, only if it held something back', () => {
    // No Allow covers what this Deny denies, but grants and IAM could; nothing of that is there.
    expect(changes(generated(), without('DenyEscapes'))).toEqual([]);
    const opened = { Effect: 'Allow', Principal: { AWS: OTHER }, Action: 'kms:CreateGrant', Resource: '*' };
    const before = withStatement(opened);
    const after = edited((document) => {
      document.Statement = [...document.Statement.filter(({ Sid }) => Sid !== 'DenyEscapes'), opened];
    });
    expect(changes(before, after)).toEqual(['role Other gained all kms:CreateGrant with none']);
  });

  it('is a limit on the operations of a grant', () => {
    const grant = (Condition?: object) => ({
      Effect: 'Allow',
      Principal: { AWS: OTHER },
      Action: 'kms:CreateGrant',
      Resource: '*',
      ...(Condition && { Condition }),
    });
    const policy = (statement: object) =>
      edited((document) => {
        document.Statement = [
          ...document.Statement.filter(({ Sid }) => Sid !== 'DenyEscapes'),
          statement as Record<string, unknown>,
        ];
      });
    const limited = grant({ 'ForAllValues:StringEquals': { 'kms:GrantOperations': ['Encrypt'] } });
    const [change] = diff(policy(limited), policy(grant())).changes as [PolicyChange];
    expect(change).toMatchObject({ direction: 'gained', extent: 'some', actions: ['kms:CreateGrant'] });
    expect(change.witness.context['kms:GrantOperations']).not.toEqual(['Encrypt']);
  });

  it('is re-encryption to another key', () => {
    const statement = (Condition?: object) => ({
      Effect: 'Allow',
      Principal: { AWS: OTHER },
      Action: 'kms:ReEncryptFrom',
      Resource: '*',
      ...(Condition && { Condition }),
    });
    const policy = (one: object) => JSON.stringify({ Version: '2012-10-17', Statement: [one] });
    const [change] = diff(
      policy(statement({ Bool: { 'kms:ReEncryptOnSameKey': 'true' } })),
      policy(statement()),
    ).changes as [PolicyChange];
    expect(change).toMatchObject({
      direction: 'gained',
      extent: 'some',
      witness: { context: { 'kms:ReEncryptOnSameKey': ['false'] } },
    });
  });

  it('is the same seen from the other side, with gains for losses', () => {
    const others = [
      generated({ releases: [release, next] }),
      without('DenyOtherImages'),
      generated({ hostRoleArn: OTHER }),
      withStatement({ Effect: 'Allow', Principal: '*', Action: 'kms:DescribeKey', Resource: '*' }),
    ];
    const turned = (list: string[]) =>
      list
        .map((text) =>
          text.replace(/ (gained|lost) /, (_, word) => (word === 'lost' ? ' gained ' : ' lost ')),
        )
        .toSorted();
    for (const other of others)
      expect(turned(changes(generated(), other))).toEqual(changes(other, generated()).toSorted());
  });

  it('is what is reached at some time from now on, and nothing of the past', () => {
    const until = (time: string) =>
      withStatement({
        Effect: 'Allow',
        Principal: { AWS: OTHER },
        Action: 'kms:Encrypt',
        Resource: '*',
        Condition: { DateLessThan: { 'aws:CurrentTime': time } },
      });
    const [over, open, later] = ['2026-01-01', '2027-01-01', '2028-01-01'].map(until) as [
      string,
      string,
      string,
    ];
    expect(changes(generated(), over)).toEqual([]);
    expect(changes(over, generated())).toEqual([]);
    expect(changes(generated(), open)).toEqual(['role Other gained all kms:Encrypt with none']);
    expect(changes(over, open)).toEqual(['role Other gained all kms:Encrypt with none']);
    // Between the two ends, and not before.
    expect(changes(open, later)).toEqual(['role Other gained some kms:Encrypt with none']);
    const [change] = diff(open, later).changes;
    expect(change?.witness.context).toMatchObject({
      'aws:CurrentTime': ['2027-01-01T00:00:00Z'],
      'aws:EpochTime': ['1798761600'],
    });
    expect(diffText(diff(open, later), { before: 'a', after: 'b' })).toContain(
      'aws:CurrentTime=2027-01-01T00:00:00Z',
    );
    expect(diffText(diff(over, open), { before: 'a', after: 'b' })).not.toContain('aws:CurrentTime=');
  });

  it('is never a gain by a Deny that is added', () => {
    const pick = fc.constantFrom;
    const deny = fc.record({
      Effect: pick('Deny'),
      Principal: pick<unknown>('*', { AWS: OTHER }, { AWS: `${ROLE}/KeyAdmin` }),
      Action: pick<unknown>('kms:*', 'kms:Decrypt', ['kms:Encrypt', 'kms:PutKeyPolicy']),
      Resource: pick('*'),
      Condition: pick<unknown>(
        {},
        { Null: { 'kms:RecipientAttestation:PCR0': 'true' } },
        { StringNotEquals: { 'aws:PrincipalArn': `${ROLE}/Owner` } },
        { StringEquals: { 'kms:EncryptionContext:strongroom-model': 'iris' } },
      ),
    });
    fc.assert(
      fc.property(deny, (statement) => {
        for (const { direction } of diff(generated(), withStatement(statement)).changes)
          expect(direction).toBe('lost');
      }),
      { numRuns: 10 },
    );
  });
});

describe('for people', () => {
  it('says who, what, with what, and which statements answer differently', () => {
    const text = diffText(diff(generated(), generated({ releases: [release, next] })), {
      before: 'old.json',
      after: 'new.json',
    });
    expect(text.split('\n')[0]).toBe(`Role EnclaveHost gains kms:Decrypt with ${NEXT}.`);
    expect(text).toContain('Allowed now, denied before:');
    expect(text).toMatch(/old\.json: key policy, statement "DenyOtherImages" \(line \d+\) denies it/);
    expect(text).toMatch(
      /new\.json: key policy, statement "DecryptImage6b6b6b6b6b6b6b6bDeploymentb2b2b2b2b2b2b2b2" \(line \d+\)/,
    );
    expect(text).not.toMatch(/[0-9a-f]{96}/);
  });
});

describeWithVectors('between labelled policies', (vectors) => {
  const place = join(vectors, 'policies');
  interface Probe {
    readonly principal: string;
    readonly action: string;
    readonly attestation: string;
    readonly expect: string;
    readonly context?: object;
  }
  const { vectors: labelled } = JSON.parse(readFileSync(join(place, 'expected.json'), 'utf8')) as {
    vectors: { file: string; probes: readonly Probe[] | 'refuse-policy'; requestContext?: object }[];
  };
  const readable = labelled.flatMap(({ file, probes, requestContext }) => {
    if (probes === 'refuse-policy' || requestContext !== undefined) return [];
    const text = readFileSync(join(place, file), 'utf8');
    try {
      parsePolicy(Buffer.from(text), 'key');
    } catch (error) {
      if (codeOf(error) === undefined) throw error;
      return [];
    }
    return [{ file, text, probes }];
  });

  it('every probe of the host that has two answers is among the changes', () => {
    let differing = 0;
    const missed: object[] = [];
    for (let index = 0; index + 1 < readable.length; index += 5) {
      const [before, after] = [readable[index], readable[index + 1]] as [
        (typeof readable)[0],
        (typeof readable)[0],
      ];
      const found = diff(before.text, after.text).changes;
      for (const probe of before.probes) {
        if (probe.principal !== 'host' || probe.context !== undefined || probe.attestation === 'nitroTpm')
          continue;
        const other = after.probes.find(
          (one) =>
            one.principal === 'host' &&
            one.action === probe.action &&
            one.attestation === probe.attestation &&
            one.context === undefined,
        );
        if (other === undefined || other.expect === probe.expect) continue;
        differing++;
        const direction = other.expect === 'allow' ? 'gained' : 'lost';
        if (!found.some((change) => change.direction === direction && change.actions.includes(probe.action)))
          missed.push({ before: before.file, after: after.file, probe });
      }
    }
    expect(differing).toBeGreaterThan(10);
    expect(missed).toEqual([]);
  }, 120_000);
});
