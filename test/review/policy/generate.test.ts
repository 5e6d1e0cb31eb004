import { describe, expect, it } from 'vitest';
import { describePolicy, readGeneratedPolicy } from '../../../review/policy/describe.ts';
import { generateKeyPolicy, type KeyPolicyInput } from '../../../review/policy/generate.ts';
import { pcrOfText } from '../../../shared/pcr.ts';
import { attestationContext } from '../../../shared/policy/context.ts';
import { parseGrant } from '../../../shared/policy/grants.ts';
import { KMS_ACTIONS } from '../../../shared/policy/kms-data.ts';
import type { Decision } from '../../../shared/policy/model.ts';
import { ACCOUNT, type Ask, ask, HOST, ROOT_USER, role } from '../../shared/policy/helpers.ts';

const IMAGE = 'd9'.repeat(48);
const DEPLOYMENT = 'a1'.repeat(48);
const NEXT_IMAGE = '6b'.repeat(48);
const NEXT_DEPLOYMENT = 'b2'.repeat(48);
const ADMIN = role('KeyAdmin');
const SEALER = role('Owner');
const OTHER = role('Other');
const IAM_ALL = [{ Version: '2012-10-17', Statement: { Effect: 'Allow', Action: '*', Resource: '*' } }];

const input: KeyPolicyInput = {
  accountId: ACCOUNT,
  releases: [{ pcr0: IMAGE, pcr16: DEPLOYMENT, modelName: 'iris' }],
  hostRoleArn: HOST.arn,
  administratorArns: [ADMIN.arn],
  sealerArns: [SEALER.arn],
};
const policy = generateKeyPolicy(input);

const sealedContext = (model = 'iris') =>
  new Map([
    ['strongroom-model', model],
    ['strongroom-version', '3'],
    ['strongroom-context', 'AAAA'],
    ['strongroom-purpose', 'model-data-key'],
  ]);
const attested = (changes: Record<number, string> = {}) => {
  const pcrs = { 0: IMAGE, 3: Buffer.from(pcrOfText(HOST.arn)).toString('hex'), 16: DEPLOYMENT, ...changes };
  return attestationContext(
    new Map(Object.entries(pcrs).map(([index, hex]) => [Number(index), Buffer.from(hex, 'hex')])),
  );
};
const ESCAPES = [
  ...['CreateGrant', 'ReplicateKey', 'UpdatePrimaryRegion', 'ImportKeyMaterial', 'DeriveSharedSecret'],
  ...['GenerateDataKey', 'GenerateDataKeyPair'],
  ...['GenerateDataKeyWithoutPlaintext', 'GenerateDataKeyPairWithoutPlaintext'],
];

const reviewed: Ask = { principal: HOST, context: attested(), encryptionContext: sealedContext() };
const decide = (changes: Ask = {}, text = policy): Decision => ask(text, { ...reviewed, ...changes });

describe('the generated key policy', () => {
  it('lets the reviewed image with the reviewed deployment on the host role decrypt for its model', () => {
    expect(decide().allowed).toBe(true);
  });

  const zero = '00'.repeat(48);
  const deviations: [what: string, changes: Ask][] = [
    ['another image', { context: attested({ 0: NEXT_IMAGE }) }],
    ['another deployment', { context: attested({ 16: NEXT_DEPLOYMENT }) }],
    ['no deployment measured', { context: attested({ 16: zero }) }],
    [
      'an instance with another role',
      { context: attested({ 3: Buffer.from(pcrOfText(OTHER.arn)).toString('hex') }) },
    ],
    ['a debug enclave', { context: attested({ 0: zero }) }],
    ['a debug enclave in every register', { context: attested({ 0: zero, 3: zero, 16: zero }) }],
    ['no attestation', { context: new Map() }],
    ['no attestation, with every right in IAM', { context: new Map(), iam: IAM_ALL }],
    ['another image, with every right in IAM', { context: attested({ 0: NEXT_IMAGE }), iam: IAM_ALL }],
    ['another model', { encryptionContext: sealedContext('other') }],
    ['a model name in another case', { encryptionContext: sealedContext('Iris') }],
    ['another purpose', { encryptionContext: new Map([...sealedContext(), ['strongroom-purpose', 'x']]) }],
    ['no encryption context', { encryptionContext: new Map() }],
    ['another role', { principal: OTHER }],
    ['another role, with every right in IAM', { principal: OTHER, iam: IAM_ALL }],
    [
      'the same role name in another account',
      { principal: role('EnclaveHost', '444455556666'), iam: IAM_ALL },
    ],
    ['the root user', { principal: ROOT_USER }],
    ['the administrator', { principal: ADMIN, iam: IAM_ALL }],
    ['the sealer', { principal: SEALER, iam: IAM_ALL }],
  ];
  it.each(deviations)('refuses Decrypt to %s', (_, changes) => {
    expect(decide(changes).allowed).toBe(false);
  });

  it.each(deviations)(
    'refuses Decrypt to %s by its Allow statements alone, were the Denies lost',
    (_, changes) => {
      const document = JSON.parse(policy);
      document.Statement = document.Statement.filter(({ Effect }: { Effect: string }) => Effect === 'Allow');
      expect(decide(changes, JSON.stringify(document)).allowed).toBe(false);
    },
  );

  it('denies every other register and every escape, even under a later Allow of everything to everyone', () => {
    const document = JSON.parse(policy);
    document.Statement.push({ Effect: 'Allow', Principal: '*', Action: 'kms:*', Resource: '*' });
    const opened = JSON.stringify(document);
    for (const index of [0, 3, 16]) {
      const context = attested({ [index]: 'ee'.repeat(48) });
      expect(decide({ principal: OTHER, context }, opened).reason, `PCR${index}`).toBe('explicit-deny');
    }
    expect(decide({ context: new Map() }, opened).reason).toBe('explicit-deny');
    for (const name of ESCAPES) {
      expect(decide({ principal: OTHER, action: `kms:${name}` }, opened).reason, name).toBe('explicit-deny');
    }
  });

  it('accepts no document whose registers are missing one by one', () => {
    for (const missing of [0, 3, 16]) {
      const context = attested();
      context.delete(`kms:RecipientAttestation:PCR${missing}`);
      expect(decide({ context }).reason, `PCR${missing}`).toBe('explicit-deny');
    }
  });

  it('holds back grants that were there before, unless the image, deployment and role are right', () => {
    const grants = [
      parseGrant({ GrantId: 'g', GranteePrincipal: OTHER.arn, Operations: ['Decrypt', 'GenerateDataKey'] }),
    ];
    const asOther = { principal: OTHER, grants };
    expect(decide({ ...asOther, context: new Map() }).reason).toBe('explicit-deny');
    expect(decide({ ...asOther, context: attested({ 16: NEXT_DEPLOYMENT }) }).reason).toBe('explicit-deny');
    expect(decide({ ...asOther, action: 'kms:GenerateDataKey' }).reason).toBe('explicit-deny');
  });

  it('lets the sealer wrap with the model and purpose in the context, describe, and nothing else', () => {
    const sealing = { principal: SEALER, context: new Map<string, string[]>() };
    expect(decide({ ...sealing, action: 'kms:Encrypt' }).allowed).toBe(true);
    expect(
      decide({ ...sealing, action: 'kms:Encrypt', encryptionContext: sealedContext('other') }).allowed,
    ).toBe(false);
    expect(decide({ ...sealing, action: 'kms:Encrypt', encryptionContext: new Map() }).allowed).toBe(false);
    expect(decide({ ...sealing, action: 'kms:DescribeKey', encryptionContext: new Map() }).allowed).toBe(
      true,
    );
    const others = KMS_ACTIONS.filter(
      ({ name, onKey }) => onKey && !['Encrypt', 'DescribeKey'].includes(name),
    );
    for (const { name } of others)
      expect(decide({ ...sealing, action: `kms:${name}` }).allowed, name).toBe(false);
  });

  it('lets the sealer re-encrypt under the same key only, for a listed model only', () => {
    for (const action of ['kms:ReEncryptFrom', 'kms:ReEncryptTo']) {
      const sealing = { principal: SEALER, action, iam: IAM_ALL };
      const same = (value: string) => new Map([['kms:ReEncryptOnSameKey', [value]]]);
      expect(decide({ ...sealing, context: same('true') }).allowed).toBe(true);
      expect(decide({ ...sealing, context: same('false') }).reason).toBe('explicit-deny');
      expect(decide({ ...sealing, context: new Map() }).reason).toBe('explicit-deny');
      expect(
        decide({ ...sealing, context: same('true'), encryptionContext: sealedContext('other') }).allowed,
      ).toBe(false);
      expect(decide({ ...sealing, principal: HOST, context: same('true') }).allowed).toBe(false);
    }
  });

  it('lets the administrator manage the key, but neither use it nor hand it on', () => {
    const may = KMS_ACTIONS.filter(
      ({ name, onKey }) => onKey && decide({ principal: ADMIN, action: `kms:${name}`, iam: IAM_ALL }).allowed,
    );
    expect(may.map(({ name }) => name)).toEqual([
      'CancelKeyDeletion',
      'DescribeKey',
      'DisableKey',
      'DisableKeyRotation',
      'EnableKey',
      'EnableKeyRotation',
      'GetKeyPolicy',
      'GetKeyRotationStatus',
      'ListGrants',
      'ListKeyPolicies',
      'ListKeyRotations',
      'ListResourceTags',
      'PutKeyPolicy',
      'RevokeGrant',
      'RotateKeyOnDemand',
      'ScheduleKeyDeletion',
      'TagResource',
      'UntagResource',
      'UpdateKeyDescription',
    ]);
  });

  it('gives nobody a way around attestation, whatever IAM says and whatever was attested', () => {
    for (const principal of [HOST, ADMIN, SEALER, OTHER, ROOT_USER]) {
      for (const name of ESCAPES) {
        expect(decide({ principal, action: `kms:${name}`, iam: IAM_ALL }).allowed, name).toBe(false);
      }
      const elsewhere = new Map([['kms:ReEncryptOnSameKey', ['false']]]);
      expect(
        decide({ principal, action: 'kms:ReEncryptFrom', iam: IAM_ALL, context: elsewhere }).allowed,
      ).toBe(false);
    }
  });

  it('gives the host Decrypt and nothing else', () => {
    const may = KMS_ACTIONS.filter(
      ({ name, onKey }) => onKey && decide({ action: `kms:${name}`, iam: IAM_ALL }).allowed,
    );
    expect(may.map(({ name }) => name)).toEqual(['Decrypt']);
  });
});

describe('an upgrade window', () => {
  const window = generateKeyPolicy({
    ...input,
    releases: [...input.releases, { pcr0: NEXT_IMAGE, pcr16: NEXT_DEPLOYMENT, modelName: 'iris' }],
  });

  it('accepts each release with its own deployment', () => {
    expect(decide({}, window).allowed).toBe(true);
    expect(decide({ context: attested({ 0: NEXT_IMAGE, 16: NEXT_DEPLOYMENT }) }, window).allowed).toBe(true);
  });

  it('accepts no mixture of two releases', () => {
    expect(decide({ context: attested({ 0: NEXT_IMAGE }) }, window).allowed).toBe(false);
    expect(decide({ context: attested({ 16: NEXT_DEPLOYMENT }) }, window).allowed).toBe(false);
  });

  it('keeps the models of two releases apart', () => {
    const apart = generateKeyPolicy({
      ...input,
      releases: [...input.releases, { pcr0: NEXT_IMAGE, pcr16: NEXT_DEPLOYMENT, modelName: 'mnist' }],
    });
    expect(decide({ encryptionContext: sealedContext('mnist') }, apart).allowed).toBe(false);
    const next = attested({ 0: NEXT_IMAGE, 16: NEXT_DEPLOYMENT });
    expect(decide({ context: next, encryptionContext: sealedContext('mnist') }, apart).allowed).toBe(true);
  });
});

describe('the generator', () => {
  it('writes the same bytes whatever the order, repetition or case of its input', () => {
    const two = { pcr0: NEXT_IMAGE, pcr16: NEXT_DEPLOYMENT, modelName: 'mnist' };
    const [one] = input.releases as [(typeof input.releases)[0]];
    const a = generateKeyPolicy({ ...input, releases: [one, two], sealerArns: [SEALER.arn, OTHER.arn] });
    const upper = { ...one, pcr0: one.pcr0.toUpperCase() };
    const b = generateKeyPolicy({
      ...input,
      releases: [two, upper, one],
      sealerArns: [OTHER.arn, SEALER.arn, OTHER.arn],
    });
    expect(b).toBe(a);
  });

  const release = (changes: object) => ({ releases: [{ ...input.releases[0], ...changes } as never] });
  const refused: [what: string, changes: Partial<KeyPolicyInput>][] = [
    ['a zero PCR0, which is a debug enclave', release({ pcr0: '0'.repeat(96) })],
    ['a zero PCR16, which is no deployment', release({ pcr16: '0'.repeat(96) })],
    ['a PCR0 of 95 digits', release({ pcr0: IMAGE.slice(1) })],
    ['a PCR0 with 0x', release({ pcr0: `0x${IMAGE}` })],
    ['a PCR16 with a blank', release({ pcr16: ` ${DEPLOYMENT}` })],
    ['a wildcard as PCR0', release({ pcr0: '*' })],
    ['no model name', release({ modelName: '' })],
    ['a model name with a wildcard', release({ modelName: 'iris*' })],
    ['a model name that is a variable', release({ modelName: '$\u007baws:username}' })],
    ['no releases', { releases: [] }],
    ['no administrators, which would lock the key for good', { administratorArns: [] }],
    ['no sealers', { sealerArns: [] }],
    ['an account of 11 digits', { accountId: '11112222333' }],
    ['a wildcard in a role', { hostRoleArn: `arn:aws:iam::${ACCOUNT}:role/*` }],
    ['a host that is a user', { hostRoleArn: `arn:aws:iam::${ACCOUNT}:user/dev` }],
    ['a host that is a session', { hostRoleArn: HOST.sessionArn as string }],
    ['the account as administrator, which would ask IAM', { administratorArns: [ROOT_USER.arn] }],
    ['everyone as administrator', { administratorArns: ['*'] }],
    ['the host as administrator', { administratorArns: [ADMIN.arn, HOST.arn] }],
    ['a sealer of another account', { sealerArns: ['arn:aws:iam::444455556666:role/Owner'] }],
    ['a sealer that is a session', { sealerArns: [SEALER.sessionArn as string] }],
  ];
  it.each(refused)('refuses %s', (_, changes) => {
    expect(() => generateKeyPolicy({ ...input, ...changes })).toThrow(
      expect.objectContaining({ code: 'KEY_POLICY_INPUT' }),
    );
  });

  it('refuses more releases than a key policy can hold', () => {
    const releases = Array.from({ length: 60 }, (_, index) => ({
      pcr0: (index + 1).toString(16).padStart(96, '0'),
      pcr16: DEPLOYMENT,
      modelName: 'iris',
    }));
    expect(() => generateKeyPolicy({ ...input, releases })).toThrow(
      expect.objectContaining({ code: 'POLICY_TOO_LARGE' }),
    );
  });
});

describe('the sentence', () => {
  it('says who may do what', () => {
    expect(describePolicy(policy)).toBe(
      'Only image d9d9d9d9… running deployment a1a1a1a1… on role EnclaveHost may decrypt the data keys of model iris; ' +
        'KeyAdmin may change this policy; Owner may seal.',
    );
  });

  it('names every release of an upgrade window, with its own models where they differ', () => {
    const second = { pcr0: NEXT_IMAGE, pcr16: NEXT_DEPLOYMENT };
    const releases = [...input.releases, { ...second, modelName: 'iris' }, { ...second, modelName: 'mnist' }];
    expect(
      describePolicy(generateKeyPolicy({ ...input, releases, sealerArns: [SEALER.arn, OTHER.arn] })),
    ).toBe(
      'Only image 6b6b6b6b… running deployment b2b2b2b2… (for iris and mnist) or ' +
        'image d9d9d9d9… running deployment a1a1a1a1… (for iris) on role EnclaveHost may decrypt the data keys of ' +
        'models iris and mnist; KeyAdmin may change this policy; Other and Owner may seal.',
    );
  });

  it('is given for the policy as KMS gives it back, with other white space', () => {
    expect(describePolicy(JSON.stringify(JSON.parse(policy)))).toBe(describePolicy(policy));
    expect(readGeneratedPolicy(policy)).toMatchObject(input);
  });

  const damaged: [what: string, change: (document: { Statement: Record<string, unknown>[] }) => void][] = [
    [
      'a further statement',
      ({ Statement }) =>
        Statement.push({ Effect: 'Allow', Principal: '*', Action: 'kms:Decrypt', Resource: '*' }),
    ],
    ['a missing Deny', ({ Statement }) => Statement.pop()],
    ['a condition taken out', ({ Statement }) => delete Statement[0]?.Condition],
    ['an action more', ({ Statement }) => Object.assign(Statement[0] ?? {}, { Action: 'kms:*' })],
    ['another principal', ({ Statement }) => Object.assign(Statement[0] ?? {}, { Principal: '*' })],
    ['no decrypting statement', ({ Statement }) => Statement.shift()],
  ];
  it.each(damaged)('is refused for a policy with %s', (_, change) => {
    const document = JSON.parse(policy);
    change(document);
    expect(() => describePolicy(JSON.stringify(document))).toThrow(
      expect.objectContaining({ code: 'KEY_POLICY_SHAPE' }),
    );
  });

  it('is refused for what is no policy', () => {
    expect(() => describePolicy('{}')).toThrow(expect.objectContaining({ code: 'KEY_POLICY_SHAPE' }));
    expect(() =>
      describePolicy(policy.replace('"Effect": "Deny"', '"Effect": "Allow", "Effect": "Deny"')),
    ).toThrow(expect.objectContaining({ code: 'KEY_POLICY_SHAPE' }));
  });
});
