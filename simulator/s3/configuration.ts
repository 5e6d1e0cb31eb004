/**
 * The configuration of a bucket, each part of it a subresource (`?versioning`): stored as it was put, returned as
 * it was put, with the answer that S3 documents where nothing was put yet. Nothing of it is enforced here but the
 * default encryption of new objects.
 */
import { codeOf } from '../../shared/errors.ts';
import { parsePolicy } from '../../shared/policy/parse.ts';
import { faultOfBody, readBody } from './body.ts';
import type { Refusal } from './refusals.ts';
import type { S3Call } from './state.ts';
import { answerXml, element, innerOf, textOf } from './xml.ts';

interface Subresource {
  /** The root element of its document. */
  readonly root: string;
  /** What stands in the document, or why there is none, before anything was put. */
  readonly unset: readonly string[] | Refusal;
  readonly readOnly?: true;
}

const S3_MANAGED_KEYS = element('Rule', [
  element('ApplyServerSideEncryptionByDefault', [element('SSEAlgorithm', 'AES256')]),
  element('BucketKeyEnabled', 'false'),
]);
const OWNER = element('Owner', [element('ID', 'owner')]);

/** By the name in the query. Amazon S3 API Reference, the Get and Put operations of these names. */
const SUBRESOURCES: Readonly<Record<string, Subresource>> = {
  accelerate: { root: 'AccelerateConfiguration', unset: [] },
  acl: {
    root: 'AccessControlPolicy',
    unset: [
      OWNER,
      `<AccessControlList><Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser"><ID>owner</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant></AccessControlList>`,
    ],
  },
  encryption: { root: 'ServerSideEncryptionConfiguration', unset: [S3_MANAGED_KEYS] },
  lifecycle: { root: 'LifecycleConfiguration', unset: 'NoSuchLifecycleConfiguration' },
  logging: { root: 'BucketLoggingStatus', unset: [] },
  notification: { root: 'NotificationConfiguration', unset: [] },
  'object-lock': { root: 'ObjectLockConfiguration', unset: 'ObjectLockConfigurationNotFoundError' },
  ownershipControls: { root: 'OwnershipControls', unset: 'OwnershipControlsNotFoundError' },
  publicAccessBlock: {
    root: 'PublicAccessBlockConfiguration',
    unset: 'NoSuchPublicAccessBlockConfiguration',
  },
  replication: { root: 'ReplicationConfiguration', unset: 'ReplicationConfigurationNotFoundError' },
  versioning: { root: 'VersioningConfiguration', unset: [] },
};

export function subresourceOf({ query }: Pick<S3Call, 'query'>): string | undefined {
  return ['policy', ...Object.keys(SUBRESOURCES)].find((name) => query.has(name));
}

export async function configure(call: S3Call, name: string): Promise<Refusal | undefined> {
  const { request, response, state, bucket } = call;
  const stored = state.configurations.get(bucket) ?? new Map<string, string>();
  const body = await readBody(request);
  const fault = faultOfBody(request.headers, body);
  if (fault !== undefined) return fault;
  const done = (status: number): undefined => void response.writeHead(status, { 'content-length': 0 }).end();
  if (request.method === 'DELETE') {
    stored.delete(name);
    return void response.writeHead(204).end();
  }
  if (name === 'policy') {
    if (request.method === 'PUT') {
      const refused = faultOfPolicy(body);
      if (refused !== undefined) return refused;
      stored.set(name, Buffer.from(body).toString());
      return void response.writeHead(204).end();
    }
    const policy = stored.get(name);
    if (policy === undefined) return 'NoSuchBucketPolicy';
    response.writeHead(200, { 'content-type': 'application/json' }).end(policy);
    return undefined;
  }
  const { root, unset } = SUBRESOURCES[name] as Subresource;
  if (request.method === 'PUT') {
    const text = Buffer.from(body).toString();
    const [inside] = innerOf(text, root);
    if (inside === undefined) return 'MalformedXML';
    // Object Lock needs versions to lock ("PutObjectLockConfiguration").
    const versioning = stored.get('versioning') ?? '';
    if (name === 'object-lock' && textOf(versioning, 'Status') !== 'Enabled') return 'InvalidBucketState';
    stored.set(name, inside);
    return done(200);
  }
  const inside = stored.get(name);
  if (inside === undefined && typeof unset === 'string') return unset;
  answerXml(response, root, inside === undefined ? (unset as readonly string[]) : [inside]);
  return undefined;
}

function faultOfPolicy(body: Uint8Array): Refusal | undefined {
  try {
    parsePolicy(body, 'bucket');
    return undefined;
  } catch (error) {
    if (codeOf(error) === undefined) throw error;
    return 'MalformedPolicy';
  }
}
