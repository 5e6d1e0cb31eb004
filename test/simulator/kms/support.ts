/** The real SDK against the simulated KMS, and attestation documents that its anchor vouches for. */
import { generateKeyPairSync } from 'node:crypto';
import { Agent } from 'node:https';
import { connect } from 'node:tls';
import { KMSClient, type KMSServiceException } from '@aws-sdk/client-kms';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { simulationAnchor } from '../../../shared/attestation/anchors.ts';
import type { AuditRecord } from '../../../simulator/kms/audit.ts';
import type { SimulatedPrincipal } from '../../../simulator/kms/principals.ts';
import { EXPLANATION_HEADER } from '../../../simulator/kms/server.ts';
import { type SimulatedKms, startSimulatedKms } from '../../../simulator/kms/simulated-kms.ts';
import { createSimulatedCa, type SimulatedCa } from '../../../simulator/nsm/ca.ts';
import { writeAttestationDocument } from '../../../simulator/nsm/document.ts';
import { newInstanceId, newModuleId } from '../../../simulator/nsm/identity.ts';

export const REGION = 'eu-central-1';
export const ACCOUNT = '111122223333';
const OTHER_ACCOUNT = '444455556666';
export const ALL_OF_KMS = {
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Action: 'kms:*', Resource: '*' }],
};

export function role(name: string, account = ACCOUNT): string {
  return `arn:aws:iam::${account}:role/${name}`;
}

/** A principal whose credentials are made of its name, so that each test can say who calls. */
export function principal(arn: string, more: Partial<SimulatedPrincipal> = {}): SimulatedPrincipal {
  const id = arn.replace(/[^A-Za-z0-9]/g, '').slice(-40);
  return { arn, accessKeyId: `AKIA${id}`, secretAccessKey: `secret of ${arn}`, ...more };
}

export const admin = principal(role('KeyAdmin'), { iamPolicies: [ALL_OF_KMS] });
export const host = principal(role('EnclaveHost'), {
  sessionName: 'i-0abcdef1234567890',
  sessionToken: 'token',
});
export const nobody = principal(role('Nobody'));
export const root = principal(`arn:aws:iam::${ACCOUNT}:root`);
export const stranger = principal(role('Attacker', OTHER_ACCOUNT), { iamPolicies: [ALL_OF_KMS] });

export interface Stand {
  readonly kms: SimulatedKms;
  readonly ca: SimulatedCa;
  readonly records: AuditRecord[];
  client(caller: SimulatedPrincipal, options?: ClientOptions): KMSClient;
  close(): Promise<void>;
}

interface ClientOptions {
  readonly region?: string;
  readonly maxAttempts?: number;
  readonly requestTimeoutMs?: number;
  /** Changes the signed request before it is sent. */
  readonly tamper?: (request: {
    headers: Record<string, string>;
    body?: unknown;
    method: string;
    path: string;
  }) => void;
}

export async function startStand(
  principals: readonly SimulatedPrincipal[] = [admin, host, nobody, root, stranger],
  now: () => Date = () => new Date(),
): Promise<Stand> {
  const records: AuditRecord[] = [];
  const ca = await createSimulatedCa({ region: REGION, now: now() });
  const kms = await startSimulatedKms({
    region: REGION,
    accountId: ACCOUNT,
    principals,
    attestationAnchors: [simulationAnchor(ca.rootPem)],
    now,
    auditLog: (record) => records.push(record),
  });
  const clients: KMSClient[] = [];
  return {
    kms,
    ca,
    records,
    client(caller, options) {
      const made = clientOf(kms, caller, options);
      clients.push(made);
      return made;
    },
    async close() {
      for (const made of clients) made.destroy();
      await kms.close();
    },
  };
}

export function clientOf(
  kms: Pick<SimulatedKms, 'host' | 'port' | 'caCertificatePem'>,
  caller: SimulatedPrincipal,
  options: ClientOptions = {},
): KMSClient {
  const agent = new Agent({ keepAlive: true });
  agent.createConnection = () =>
    connect({ host: '127.0.0.1', port: kms.port, servername: kms.host, ca: kms.caCertificatePem });
  const handler = new NodeHttpHandler({
    httpsAgent: agent,
    requestTimeout: options.requestTimeoutMs ?? 10_000,
    throwOnRequestTimeout: true,
  });
  const { tamper } = options;
  const handle = handler.handle.bind(handler);
  handler.handle = (request, extra) => {
    tamper?.(request);
    return handle(request, extra);
  };
  const { accessKeyId, secretAccessKey, sessionToken } = caller;
  return new KMSClient({
    region: options.region ?? REGION,
    endpoint: `https://${kms.host}`,
    credentials: { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) },
    requestHandler: handler,
    maxAttempts: options.maxAttempts ?? 1,
  });
}

export interface Refusal {
  readonly name: string;
  readonly message: string;
  readonly status: number | undefined;
  readonly explanation: string;
}

/** The error that the SDK makes of an answer, and what the side channel adds to it. */
export async function refusal(sent: Promise<unknown>): Promise<Refusal> {
  try {
    await sent;
  } catch (error) {
    const { name, message, $metadata, $response } = error as KMSServiceException;
    return {
      name,
      message,
      status: $metadata?.httpStatusCode,
      explanation: $response?.headers[EXPLANATION_HEADER] ?? '',
    };
  }
  throw new Error('expected a refusal, found an answer');
}

export const recipientKeys = generateKeyPairSync('rsa', { modulusLength: 2048 });
export const recipientSpki = recipientKeys.publicKey.export({ format: 'der', type: 'spki' });

export function pcr(fill: number): Uint8Array {
  return new Uint8Array(48).fill(fill);
}

/** A document as an enclave with these registers would get it. */
export async function attest(
  ca: SimulatedCa,
  pcrs: Readonly<Record<number, Uint8Array>>,
  more: { readonly publicKey?: Uint8Array | null; readonly at?: Date } = {},
): Promise<Uint8Array> {
  const at = more.at ?? new Date();
  const instanceId = newInstanceId();
  const moduleId = newModuleId(instanceId, at);
  const leaf = await ca.issueLeaf({ instanceId, moduleId }, at);
  return writeAttestationDocument(
    {
      moduleId,
      timestampMs: at.getTime(),
      pcrs: new Map(Object.entries(pcrs).map(([index, value]) => [Number(index), value])),
      certificate: leaf.certificate,
      cabundle: leaf.cabundle,
      publicKey: more.publicKey === undefined ? recipientSpki : more.publicKey,
      userData: null,
      nonce: null,
    },
    'indefinite',
    leaf.privateKey,
  );
}

export function toRecipient(document: Uint8Array) {
  return { KeyEncryptionAlgorithm: 'RSAES_OAEP_SHA_256', AttestationDocument: document } as const;
}

/** A key policy from statements; the administrator may always administer. */
export function keyPolicy(...statements: readonly object[]): string {
  return JSON.stringify({
    Version: '2012-10-17',
    Statement: [
      {
        Sid: 'Administration',
        Effect: 'Allow',
        Principal: { AWS: admin.arn },
        Action: [
          'kms:PutKeyPolicy',
          'kms:GetKeyPolicy',
          'kms:DescribeKey',
          'kms:Encrypt',
          'kms:ListGrants',
          'kms:RevokeGrant',
        ],
        Resource: '*',
      },
      ...statements,
    ],
  });
}

export function allow(
  who: SimulatedPrincipal | '*',
  actions: string | readonly string[],
  Condition?: object,
): object {
  return {
    Sid: 'Tested',
    Effect: 'Allow',
    Principal: who === '*' ? '*' : { AWS: who.arn },
    Action: actions,
    Resource: '*',
    ...(Condition === undefined ? {} : { Condition }),
  };
}
