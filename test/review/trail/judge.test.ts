import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TRAIL_RULES } from '../../../review/trail/codes.ts';
import { readEvent } from '../../../review/trail/event.ts';
import { judge, type TrailExpectations } from '../../../review/trail/judge.ts';
import { pcrOfText } from '../../../shared/pcr.ts';
import {
  ACCOUNT,
  EXPECTED,
  eventOf,
  type Fields,
  fill,
  HOST,
  KEY,
  OTHER_KEY,
  RELEASE,
  raw,
  recipient,
  record,
  session,
} from './records.ts';

const ROLE = `arn:aws:iam::${ACCOUNT}:role`;
const judged = (changes: Fields = {}, expected: Partial<TrailExpectations> = {}) =>
  judge(eventOf(changes), { ...EXPECTED, ...expected });
const objection = (changes: Fields, expected?: Partial<TrailExpectations>) => {
  const found = judged(changes, expected).objection;
  return found === undefined ? undefined : `${found.code} ${found.severity}`;
};
const attested = (changes: Readonly<Record<number, Uint8Array>>): Fields => ({
  additionalEventData: { recipient: recipient(changes) },
});
const unattested: Fields = { additionalEventData: undefined };
const by = (role: string): Fields => ({ userIdentity: session(`${ROLE}/${role}`) });
const control = (eventName: string, parameters: Fields = {}, who = 'KeyAdmin'): Fields => ({
  ...unattested,
  ...by(who),
  eventName,
  readOnly: false,
  requestParameters: { keyId: KEY, ...parameters },
});
const denied: Fields = {
  errorCode: 'AccessDenied',
  errorMessage: `User: x is not authorized to perform: kms:Decrypt on resource: ${KEY} because no`,
};

const tried = new Set<string>();
const note = (codes: readonly (string | undefined)[]) => {
  for (const code of codes) if (code !== undefined) tried.add(code.split(' ')[0] as string);
};

describe('a use of the key', () => {
  it('is as it should be by a reviewed image on a host’s role, and the image is named', () => {
    expect(judged()).toEqual({
      lane: 'attested',
      image: 'strongroom 1.4.0',
      objection: undefined,
      undecided: false,
    });
  });

  it('is named by every version that the image is', () => {
    const releases = [RELEASE, { ...RELEASE, version: '1.4.1' }];
    expect(judged({}, { releases })).toMatchObject({ image: 'strongroom 1.4.0 / strongroom 1.4.1' });
  });

  it('cannot be judged without release manifests, unless it is bad in itself', () => {
    const unknown = { releases: undefined };
    expect(judged({}, unknown)).toMatchObject({
      image: 'image d9d9d9d9d9d9…',
      objection: undefined,
      undecided: true,
    });
    expect(objection(attested({ 0: fill(0), 1: fill(0), 2: fill(0) }), unknown)).toBe('debug-image critical');
    expect(objection(by('Other'), unknown)).toBe('wrong-role high');
  });

  const withdrawn = { ...RELEASE, withdrawn: { at: new Date('2026-11-30T00:00:00Z'), reason: 'a fault' } };
  const uses: [string, Fields, Partial<TrailExpectations>, string | undefined][] = [
    ['Decrypt without a document', unattested, {}, 'unattested-plaintext critical'],
    [
      'DeriveSharedSecret without a document',
      { ...unattested, eventName: 'DeriveSharedSecret' },
      {},
      'unattested-plaintext critical',
    ],
    [
      'a data key without a document',
      { ...unattested, eventName: 'GenerateDataKey' },
      {},
      'unattested-datakey high',
    ],
    ['a data key with one', { eventName: 'GenerateDataKey' }, {}, undefined],
    ['a debug enclave', attested({ 0: fill(0), 1: fill(0), 2: fill(0) }), {}, 'debug-image critical'],
    ['another image', attested({ 0: fill(7) }), {}, 'unknown-image critical'],
    ['a known image with another kernel', attested({ 1: fill(7) }), {}, 'registers-differ critical'],
    [
      'a known image with a signer that it has not',
      attested({ 8: fill(7) }),
      {},
      'registers-differ critical',
    ],
    ['a known image, unsigned as it is', attested({ 8: fill(0) }), {}, undefined],
    [
      'a document without image digest',
      { additionalEventData: { recipient: { attestationDocumentModuleId: 'x' } } },
      {},
      'other-platform high',
    ],
    ['a withdrawn release', {}, { releases: [withdrawn] }, 'withdrawn-image high'],
    [
      'a release before it was withdrawn',
      { eventTime: '2026-11-29T12:00:00Z' },
      { releases: [withdrawn] },
      undefined,
    ],
    [
      'a withdrawn version beside one of the same image',
      {},
      { releases: [withdrawn, { ...RELEASE, version: '1.4.1' }] },
      undefined,
    ],
    ['credentials of another role', by('Other'), {}, 'wrong-role high'],
    ['an instance of another role', attested({ 3: pcrOfText(`${ROLE}/Other`) }), {}, 'wrong-role high'],
    ['the caller’s own role where none is given', {}, { hostRoleArns: [] }, undefined],
    [
      'another role in PCR3 than the caller’s',
      attested({ 3: fill(9) }),
      { hostRoleArns: [] },
      'wrong-role high',
    ],
    [
      'another account',
      { userIdentity: session('arn:aws:iam::444455556666:role/EnclaveHost') },
      {},
      'external-account critical',
    ],
    [
      'another model',
      { requestParameters: { keyId: KEY, encryptionContext: { 'strongroom-model': 'mnist' } } },
      {},
      'unexpected-model medium',
    ],
    [
      'another model where the manifest names none',
      { requestParameters: { keyId: KEY, encryptionContext: { 'strongroom-model': 'mnist' } } },
      { releases: [{ ...RELEASE, deployments: [] }] },
      undefined,
    ],
    [
      'a dry run that would have been answered',
      { ...unattested, errorCode: 'DryRunOperationException', errorMessage: 'x' },
      {},
      'unattested-plaintext critical',
    ],
  ];
  note(uses.map(([, , , code]) => code));
  it.each(uses)('by %s', (_, changes, expected, code) => {
    expect(objection(changes, expected)).toBe(code);
  });

  it('through an AWS service says so', () => {
    const userIdentity = { ...session(HOST), invokedBy: 's3.amazonaws.com' };
    expect(judged({ ...unattested, userIdentity }).objection?.detail).toBe('through s3.amazonaws.com');
  });
});

describe('control of the key', () => {
  const changes: [string, Fields, string | undefined][] = [
    ['the policy changed by a known administrator', control('PutKeyPolicy'), 'policy-admin medium'],
    ['the policy changed by somebody else', control('PutKeyPolicy', {}, 'Other'), 'policy-admin high'],
    [
      'a grant that decrypts',
      control('CreateGrant', { operations: ['Decrypt'], granteePrincipal: `${ROLE}/x` }),
      'grant-escape high',
    ],
    [
      'a grant that hands on',
      control('CreateGrant', { operations: ['CreateGrant', 'DescribeKey'] }),
      'grant-escape high',
    ],
    ['a grant that only looks', control('CreateGrant', { operations: ['DescribeKey'] }), 'grant-escape low'],
    ['a grant whose operations are not in the record', control('CreateGrant'), 'grant-escape high'],
    ['a replica', control('ReplicateKey'), 'replica-escape critical'],
    ['another primary region', control('UpdatePrimaryRegion'), 'replica-escape critical'],
    ['imported material', control('ImportKeyMaterial'), 'imported-material high'],
    ['deletion scheduled', control('ScheduleKeyDeletion'), 'availability medium'],
    ['the key disabled', control('DisableKey'), 'availability medium'],
    ['an alias moved', control('UpdateAlias', { aliasName: 'alias/x' }), 'alias-changed low'],
    ['rotation', control('RotateKeyOnDemand'), 'key-changed info'],
    [
      're-encryption to another key',
      control('ReEncrypt', { sourceKeyId: KEY, destinationKeyId: OTHER_KEY }),
      'reencrypt-escape critical',
    ],
    [
      're-encryption on the key',
      control('ReEncrypt', { sourceKeyId: KEY, destinationKeyId: KEY.split('/')[1] }),
      'reencrypt-context info',
    ],
    [
      're-encryption of something else into the key',
      control('ReEncrypt', { sourceKeyId: OTHER_KEY, destinationKeyId: KEY }),
      'integrity-encrypt medium',
    ],
    ['re-encryption between unnamed keys', control('ReEncrypt'), 'reencrypt-escape critical'],
    ['encryption by the sealer', control('Encrypt', {}, 'Owner'), undefined],
    ['encryption by somebody else', control('Encrypt', {}, 'Other'), 'integrity-encrypt medium'],
    ['an operation that nobody knows', control('OpenSesame'), 'unknown-operation medium'],
    ['an unknown one that only reads', { ...control('GetSesame'), readOnly: true }, undefined],
    ['a look at the key', { ...control('DescribeKey'), readOnly: true }, undefined],
  ];
  note(changes.map(([, , code]) => code));
  it.each(changes)('%s', (_, fields, code) => {
    expect(objection(fields)).toBe(code);
  });
});

describe('a refusal', () => {
  const refusals: [string, Fields, string][] = [
    ['of a reviewed image', denied, 'reviewed-image-refused medium'],
    ['without a document', { ...unattested, ...denied }, 'refused-attempt medium'],
    ['of a debug enclave', { ...attested({ 0: fill(0) }), ...denied }, 'refused-attempt medium'],
    ['of an unknown image', { ...attested({ 0: fill(7) }), ...denied }, 'refused-attempt medium'],
    ['of a grant', { ...control('CreateGrant'), ...denied }, 'refused-attempt medium'],
    ['of another policy', { ...control('PutKeyPolicy'), ...denied }, 'refused-attempt medium'],
    ['of a look', { ...control('DescribeKey'), ...denied }, 'refused-attempt low'],
    [
      'of a document that is not genuine',
      {
        ...unattested,
        errorCode: 'ValidationException',
        errorMessage: 'The attestation document is invalid',
      },
      'refused-attempt medium',
    ],
    [
      'for haste',
      { ...unattested, errorCode: 'ThrottlingException', errorMessage: 'Rate exceeded' },
      'failed-call info',
    ],
  ];
  note(refusals.map(([, , code]) => code));
  it.each(refusals)('%s', (_, changes, code) => {
    expect(objection(changes)).toBe(code);
  });

  it('gives the reason of KMS, or the explanation of the simulated one', () => {
    expect(judged(denied).objection?.detail).toMatch(/^AccessDenied: User: x is not authorized/);
    const explained = {
      ...denied,
      strongroom: { outcome: 'refused', explanation: ['PCR16: expected a, found b'] },
    };
    expect(judged(explained).objection?.detail).toBe('AccessDenied: PCR16: expected a, found b');
  });
});

it('every code is tried above, and has words for a person', () => {
  expect([...tried].toSorted()).toEqual(Object.keys(TRAIL_RULES).toSorted());
  for (const { title, why, remedy } of Object.values(TRAIL_RULES)) {
    for (const text of [title, why, remedy]) expect(text.length).toBeGreaterThan(10);
  }
});

describe('a record', () => {
  it('names its keys wherever it has them', () => {
    const bare = { resources: undefined, requestParameters: null };
    expect(eventOf({ ...bare, ...denied }).keys).toEqual([KEY]);
    expect(eventOf({ ...bare, serviceEventDetails: { keyId: KEY } }).keys).toEqual([KEY]);
    expect(eventOf({ requestParameters: { keyId: KEY.split('/')[1] } }).keys).toEqual([
      KEY,
      KEY.split('/')[1],
    ]);
  });

  it('may have registers in hexadecimal digits, as examples of AWS have', () => {
    const digest = fill(0xd9).toString('hex').toUpperCase();
    const event = eventOf({
      additionalEventData: { recipient: { attestationDocumentEnclaveImageDigest: digest } },
    });
    expect(event.recipient?.pcrs.get(0)).toBe('d9'.repeat(48));
  });

  it('has the role of a session even where the issuer is left out', () => {
    const { sessionContext: _issuer, ...identity } = session(HOST) as Record<string, unknown>;
    expect(eventOf({ userIdentity: identity }).caller).toMatchObject({
      arn: HOST,
      session: 'i-0abcdef1234567890',
    });
  });

  it('of another service is left alone, unless it hides the name of KMS', () => {
    expect(readEvent(raw(record({ eventSource: 's3.amazonaws.com', eventName: 5 })))).toBeUndefined();
    expect(readEvent(raw('{"anything":[1,2,{"a":null}]}'))).toBeUndefined();
    const hidden = JSON.stringify(record()).replace('kms.amazonaws.com', 'kms\\u002eamazonaws.com');
    expect(readEvent(raw(hidden))?.name).toBe('Decrypt');
  });

  it('may lie as text in one of lookup-events', () => {
    const outer = { EventId: 'x', EventName: 'Decrypt', CloudTrailEvent: JSON.stringify(record()) };
    expect(readEvent(raw(outer))?.name).toBe('Decrypt');
    const repeated = JSON.stringify(record()).replace('"eventName"', '"eventName":"Encrypt","eventName"');
    expect(() => readEvent(raw({ CloudTrailEvent: repeated }))).toThrow(
      expect.objectContaining({ code: 'TRAIL_RECORD' }),
    );
  });

  const text = JSON.stringify(record());
  it.each<[string, string | Fields]>([
    ['a member twice', text.replace('"eventName"', '"eventName":"Encrypt","eventName"')],
    [
      'a member of a member twice',
      text.replace(
        '"attestationDocumentModuleId"',
        '"attestationDocumentModuleId":"x","attestationDocumentModuleId"',
      ),
    ],
    ['no JSON', text.replace('"eventName"', 'eventName')],
    ['a time without zone', record({ eventTime: '2026-11-30T12:00:00' })],
    ['a time that is a number', record({ eventTime: 1_790_000_000 })],
    ['no time', record({ eventTime: undefined })],
    ['a name that is a number', record({ eventName: 1 })],
    ['no name', record({ eventName: undefined })],
    ['an identity that is text', record({ userIdentity: 'root' })],
    ['resources that are an object', record({ resources: { ARN: KEY } })],
    ['more resources than KMS has', record({ resources: Array.from({ length: 100 }, () => ({ ARN: KEY })) })],
    ['an error code that is an object', record({ errorCode: {} })],
    ['a recipient that is a list', record({ additionalEventData: { recipient: [] } })],
    [
      'a digest of another length',
      record({ additionalEventData: { recipient: { attestationDocumentEnclaveImageDigest: 'AAAA' } } }),
    ],
    [
      'a digest that is a number',
      record({ additionalEventData: { recipient: { attestationDocumentEnclaveImageDigest: 5 } } }),
    ],
    [
      'two values for PCR0',
      record({
        additionalEventData: {
          recipient: { ...recipient(), attestationDocumentEnclavePCR0: fill(9).toString('base64') },
        },
      }),
    ],
  ])('is refused with %s', (_, content) => {
    expect(() => readEvent(raw(content))).toThrow(expect.objectContaining({ code: 'TRAIL_RECORD' }));
  });

  it('is refused when it is not UTF-8', () => {
    const bytes = Buffer.from(text.replace('aws-sdk-js', 'aws-sdk-\u00e9'), 'latin1');
    expect(() => readEvent({ ...raw(text), bytes })).toThrow(
      expect.objectContaining({ code: 'TRAIL_RECORD' }),
    );
  });

  it('is judged or refused with its own error, whatever stands in its members', () => {
    const names = Object.keys(record());
    fc.assert(
      fc.property(
        fc.constantFrom(...names),
        fc.jsonValue(),
        fc.constantFrom(...names),
        fc.jsonValue(),
        (one, a, two, b) => {
          const text = JSON.stringify({ ...record(), [one]: a, [two]: b, note: 'kms.amazonaws.com' });
          try {
            const event = readEvent(raw(text));
            if (event !== undefined) judge(event, EXPECTED);
          } catch (error) {
            expect(error).toMatchObject({ code: 'TRAIL_RECORD' });
          }
        },
      ),
      { numRuns: 500 },
    );
  });
});
