/** The simulated AWS account: its principals, their credentials, and the KMS that knows them. */
import { randomBytes } from 'node:crypto';
import type { SimulatedKmsConfig } from './kms/config.ts';

export const REGION = 'eu-central-1';
export const ACCOUNT_ID = '111122223333';

/** The principals of the simulated account, and what each is for. */
export const ROLES = {
  administrator: `arn:aws:iam::${ACCOUNT_ID}:role/KeyAdministrator`,
  owner: `arn:aws:iam::${ACCOUNT_ID}:role/ModelOwner`,
  host: `arn:aws:iam::${ACCOUNT_ID}:role/EnclaveHost`,
} as const;
export type RoleName = keyof typeof ROLES;

export interface RoleCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
  readonly expiration: Date;
}

const CREDENTIALS_LIFE_MS = 6 * 60 * 60 * 1000;
export function newCredentials(now: Date): Record<RoleName, RoleCredentials> {
  const fresh = (): RoleCredentials => ({
    accessKeyId: `ASIA${randomBytes(8).toString('hex').toUpperCase()}`,
    secretAccessKey: randomBytes(30).toString('base64'),
    sessionToken: randomBytes(64).toString('base64'),
    expiration: new Date(now.getTime() + CREDENTIALS_LIFE_MS),
  });
  return { administrator: fresh(), owner: fresh(), host: fresh() };
}

export function kmsConfig(
  credentials: Readonly<Record<RoleName, RoleCredentials>>,
  instanceId: string,
  attestationRoot: string,
  auditLog: string,
): SimulatedKmsConfig {
  const createKey = {
    Version: '2012-10-17',
    Statement: [{ Effect: 'Allow', Action: 'kms:CreateKey', Resource: '*' }],
  };
  return {
    region: REGION,
    accountId: ACCOUNT_ID,
    principals: (Object.keys(ROLES) as RoleName[]).map((role) => ({
      arn: ROLES[role],
      ...credentials[role],
      expiration: credentials[role].expiration.toISOString(),
      ...(role === 'host' ? { sessionName: instanceId } : {}),
      ...(role === 'administrator' ? { iamPolicies: [JSON.stringify(createKey)] } : {}),
    })),
    attestationAnchors: [attestationRoot],
    auditLog,
  };
}
