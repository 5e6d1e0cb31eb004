/** Records as CloudTrail writes them (KMS developer guide, "Monitoring requests for Nitro enclaves"), by default a use that is as it should be. */
import { randomUUID } from 'node:crypto';
import type { Release } from '../../../review/releases.ts';
import type { TrailError } from '../../../review/trail/errors.ts';
import { readEvent } from '../../../review/trail/event.ts';
import type { TrailExpectations } from '../../../review/trail/judge.ts';
import { type RawRecord, RecordScanner } from '../../../review/trail/record-scanner.ts';
import { pcrOfText } from '../../../shared/pcr.ts';

export const ACCOUNT = '111122223333';
export const KEY = `arn:aws:kms:eu-central-1:${ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab`;
export const OTHER_KEY = `arn:aws:kms:eu-central-1:${ACCOUNT}:key/99999999-12ab-34cd-56ef-1234567890ab`;
export const HOST = `arn:aws:iam::${ACCOUNT}:role/EnclaveHost`;
export const fill = (byte: number): Buffer => Buffer.alloc(48, byte);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

export const RELEASE: Release = {
  name: 'strongroom',
  version: '1.4.0',
  pcrs: { 0: hex(fill(0xd9)), 1: hex(fill(1)), 2: hex(fill(2)) },
  deployments: [{ sha384: 'ab'.repeat(48), pcr16: 'cd'.repeat(48), models: ['iris'] }],
};
export const EXPECTED: TrailExpectations = {
  keys: [KEY],
  releases: [RELEASE],
  hostRoleArns: [HOST],
  sealerArns: [`arn:aws:iam::${ACCOUNT}:role/Owner`],
  administratorArns: [`arn:aws:iam::${ACCOUNT}:role/KeyAdmin`],
};

export type Fields = Readonly<Record<string, unknown>>;

export function session(roleArn: string, name = 'i-0abcdef1234567890'): Fields {
  const [, , , , account = '', path = ''] = roleArn.split(':');
  return {
    type: 'AssumedRole',
    arn: `arn:aws:sts::${account}:assumed-role/${path.replace('role/', '')}/${name}`,
    accountId: account,
    sessionContext: { sessionIssuer: { type: 'Role', arn: roleArn, accountId: account } },
  };
}

export function recipient(changes: Readonly<Record<number, Uint8Array>> = {}): Fields {
  const pcrs = { 0: fill(0xd9), 1: fill(1), 2: fill(2), 3: pcrOfText(HOST), 4: fill(4), ...changes };
  return {
    attestationDocumentModuleId: 'i-0abcdef1234567890-enc0123456789abcdef',
    attestationDocumentEnclaveImageDigest: base64(pcrs[0]),
    ...Object.fromEntries(
      Object.entries(pcrs)
        .filter(([index]) => index !== '0')
        .map(([index, value]) => [`attestationDocumentEnclavePCR${index}`, base64(value)]),
    ),
  };
}

export function record(changes: Fields = {}): Fields {
  return {
    eventVersion: '1.11',
    userIdentity: session(HOST),
    eventTime: '2026-11-30T12:00:00Z',
    eventSource: 'kms.amazonaws.com',
    eventName: 'Decrypt',
    awsRegion: 'eu-central-1',
    sourceIPAddress: '192.0.2.1',
    userAgent: 'aws-sdk-js',
    requestParameters: { keyId: KEY, encryptionContext: { 'strongroom-model': 'iris' } },
    responseElements: null,
    additionalEventData: { recipient: recipient() },
    requestID: randomUUID(),
    eventID: randomUUID(),
    readOnly: true,
    resources: [{ accountId: ACCOUNT, type: 'AWS::KMS::Key', ARN: KEY }],
    eventType: 'AwsApiCall',
    recipientAccountId: ACCOUNT,
    ...changes,
  };
}

export interface Scanned {
  readonly texts: readonly string[];
  readonly members: readonly number[];
  readonly errors: readonly TrailError[];
}

/** The records of a text that arrives in pieces of this size. Throws what the scanner throws. */
export function scan(text: string | Uint8Array, pieceBytes = Number.POSITIVE_INFINITY): Scanned {
  const texts: string[] = [];
  const members: number[] = [];
  const errors: TrailError[] = [];
  const scanner = new RecordScanner({
    record(raw) {
      texts.push(Buffer.from(raw.bytes).toString());
      members.push(raw.members);
    },
    unreadable: (error) => void errors.push(error),
  });
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += pieceBytes) scanner.push(bytes.subarray(at, at + pieceBytes));
  scanner.end();
  return { texts, members, errors };
}

export function raw(text: string | object): RawRecord {
  const bytes = Buffer.from(typeof text === 'string' ? text : JSON.stringify(text));
  const { members } = scan(bytes);
  return { bytes, offset: 0, members: members[0] ?? -1 };
}

export function eventOf(changes: Fields = {}) {
  const event = readEvent(raw(record(changes)));
  if (event === undefined) throw new Error('not an event of KMS');
  return event;
}
