/**
 * CloudTrail-shaped records (CloudTrail user guide, "Record contents"; KMS developer guide, "Monitoring requests
 * for Nitro enclaves"). One member is not CloudTrail's: `strongroom`, with the explanation that AWS never gives.
 */
import { randomUUID } from 'node:crypto';
import type { Note } from './call.ts';
import type { KmsException } from './exception.ts';
import { currentMaterial, type RotationType, type SimulatedKey } from './keys.ts';
import type { Caller } from './principals.ts';
import type { Recipient } from './recipient.ts';

export type AuditRecord = Readonly<Record<string, unknown>>;

export interface AuditEvent {
  readonly requestId: string;
  readonly operation: string;
  readonly region: string;
  readonly accountId: string;
  readonly at: Date;
  readonly caller: Caller | undefined;
  readonly sourceIp: string;
  readonly userAgent: string;
  readonly tls: { readonly version: string; readonly cipher: string; readonly host: string };
  readonly note: Note;
  readonly error: KmsException | undefined;
}

const READ_ONLY: ReadonlySet<string> = new Set([
  'ReEncrypt',
  'GenerateDataKeyWithoutPlaintext',
  'GetKeyRotationStatus',
  'ListKeyRotations',
  'ListAliases',
  'Encrypt',
  'Decrypt',
  'GenerateDataKey',
  'GenerateRandom',
  'DescribeKey',
  'GetKeyPolicy',
  'ListGrants',
]);

/** The registers that CloudTrail shows; PCR0 has a name of its own. */
const SHOWN_PCRS = [1, 2, 3, 4, 8] as const;

export function auditRecord(event: AuditEvent): AuditRecord {
  const { note, error, caller } = event;
  const succeeded = error === undefined;
  return {
    eventVersion: '1.11',
    userIdentity: caller === undefined ? { type: 'Unknown' } : userIdentity(caller),
    eventTime: `${event.at.toISOString().slice(0, 19)}Z`,
    eventSource: 'kms.amazonaws.com',
    eventName: event.operation,
    awsRegion: event.region,
    sourceIPAddress: event.sourceIp,
    userAgent: event.userAgent,
    ...(succeeded ? {} : { errorCode: errorCode(error), errorMessage: error.message }),
    requestParameters: note.requestParameters,
    responseElements: (succeeded ? note.responseElements : undefined) ?? null,
    ...additionalEventData(note, succeeded),
    requestID: event.requestId,
    eventID: randomUUID(),
    readOnly: READ_ONLY.has(event.operation),
    resources: [note.key, note.destinationKey].filter((key) => key !== undefined).map(resource),
    eventType: 'AwsApiCall',
    managementEvent: true,
    recipientAccountId: note.key?.accountId ?? event.accountId,
    eventCategory: 'Management',
    tlsDetails: {
      tlsVersion: event.tls.version,
      cipherSuite: event.tls.cipher,
      clientProvidedHostHeader: event.tls.host,
    },
    strongroom: {
      outcome: succeeded ? 'answered' : 'refused',
      explanation:
        error === undefined || error.explanation.length === 0 ? note.explanation : error.explanation,
    },
  };
}

/** CloudTrail's record of a rotation, which KMS carries out by itself (KMS developer guide, "RotateKey"). */
export function rotationRecord(
  key: SimulatedKey,
  rotationType: RotationType,
  { region, at }: { readonly region: string; readonly at: Date },
): AuditRecord {
  return {
    eventVersion: '1.11',
    userIdentity: { accountId: key.accountId, invokedBy: 'AWS Internal' },
    eventTime: `${at.toISOString().slice(0, 19)}Z`,
    eventSource: 'kms.amazonaws.com',
    eventName: 'RotateKey',
    awsRegion: region,
    sourceIPAddress: 'AWS Internal',
    userAgent: 'AWS Internal',
    requestParameters: null,
    responseElements: null,
    eventID: randomUUID(),
    readOnly: false,
    resources: [resource(key)],
    eventType: 'AwsServiceEvent',
    managementEvent: true,
    recipientAccountId: key.accountId,
    serviceEventDetails: {
      keyId: key.arn,
      rotationType,
      currentBackingKeyId: currentMaterial(key).id,
      previousBackingKeyId: key.materials.at(-2)?.id,
    },
    eventCategory: 'Management',
    strongroom: { outcome: 'answered', explanation: [] },
  };
}

function resource({ accountId, arn }: SimulatedKey): Readonly<Record<string, string>> {
  return { accountId, type: 'AWS::KMS::Key', ARN: arn };
}

function additionalEventData({ recipient, additionalEventData }: Note, succeeded: boolean): AuditRecord {
  const data = {
    ...(recipient === undefined ? {} : { recipient: recipientOf(recipient) }),
    ...(succeeded ? additionalEventData : {}),
  };
  return Object.keys(data).length === 0 ? {} : { additionalEventData: data };
}

function userIdentity({ identity, accessKeyId }: Caller) {
  const { arn, sessionArn, accountId } = identity;
  if (sessionArn === undefined) {
    const type = arn.endsWith(':root') ? 'Root' : 'IAMUser';
    const name = arn.slice(arn.lastIndexOf('/') + 1);
    return { type, arn, accountId, accessKeyId, ...(type === 'Root' ? {} : { userName: name }) };
  }
  const userName = arn.slice(arn.lastIndexOf('/') + 1);
  return {
    type: 'AssumedRole',
    arn: sessionArn,
    accountId,
    accessKeyId,
    sessionContext: { sessionIssuer: { type: 'Role', arn, accountId, userName } },
  };
}

/** CloudTrail writes registers in base64, where key policies have hexadecimal digits. */
function recipientOf({ moduleId, pcrs }: Recipient): Readonly<Record<string, string>> {
  const shown = SHOWN_PCRS.filter((index) => pcrs.has(index)).map((index) => [
    `attestationDocumentEnclavePCR${index}`,
    register(pcrs, index),
  ]);
  return {
    attestationDocumentModuleId: moduleId,
    attestationDocumentEnclaveImageDigest: register(pcrs, 0),
    ...Object.fromEntries(shown),
  };
}

function register(pcrs: ReadonlyMap<number, Uint8Array>, index: number): string {
  return Buffer.from(pcrs.get(index) ?? []).toString('base64');
}

/** CloudTrail drops the suffix of this one. */
function errorCode(error: KmsException): string {
  return error.name === 'AccessDeniedException' ? 'AccessDenied' : error.name;
}
