/**
 * What KMS says of a key today, with the caller's own credentials: policy, grants, metadata and aliases, all pages.
 * Reads only. What may not be read is left out, and the report then says that it was not supplied.
 */
import {
  DescribeKeyCommand,
  GetKeyPolicyCommand,
  GetKeyRotationStatusCommand,
  type GrantListEntry,
  type KMSClient,
  paginateListAliases,
  paginateListGrants,
} from '@aws-sdk/client-kms';
import { CommandError } from '../errors.ts';

export interface LiveKey {
  readonly policy: string;
  /** As `--context` has it. */
  readonly context: Readonly<Record<string, unknown>>;
  /** Calls that KMS refused. */
  readonly denied: readonly string[];
}

/** A list that never ends is not read to its end. */
const PAGES_MAX = 1_000;

/** Throws CommandError KEY_UNREADABLE if not even the policy can be read. */
export async function readLiveKey(client: KMSClient, keyArn: string): Promise<LiveKey> {
  const denied: string[] = [];
  const attempt = async <T>(name: string, read: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await read();
    } catch (error) {
      if (!isRefusal(error)) throw unreadable(keyArn, name, error);
      denied.push(name);
      return undefined;
    }
  };
  const policy = await attempt('kms:GetKeyPolicy', async () => {
    const { Policy } = await client.send(new GetKeyPolicyCommand({ KeyId: keyArn, PolicyName: 'default' }));
    return Policy;
  });
  if (policy === undefined) throw unreadable(keyArn, 'kms:GetKeyPolicy');
  const grants = await attempt('kms:ListGrants', () => allGrants(client, keyArn));
  const metadata = await attempt('kms:DescribeKey', async () => {
    const { KeyMetadata } = await client.send(new DescribeKeyCommand({ KeyId: keyArn }));
    return KeyMetadata;
  });
  const aliases = await attempt('kms:ListAliases', () => allAliases(client, keyArn));
  const rotation = await attempt('kms:GetKeyRotationStatus', async () => {
    const { KeyRotationEnabled } = await client.send(new GetKeyRotationStatusCommand({ KeyId: keyArn }));
    return KeyRotationEnabled;
  });
  return {
    policy,
    context: {
      ...(grants === undefined ? {} : { grants }),
      ...(metadata === undefined
        ? {}
        : {
            keyMetadata: {
              arn: metadata.Arn,
              origin: metadata.Origin,
              multiRegion: metadata.MultiRegion,
              keyUsage: metadata.KeyUsage,
              keySpec: metadata.KeySpec,
              keyState: metadata.KeyState,
              customKeyStoreId: metadata.CustomKeyStoreId,
              keyRotationEnabled: rotation,
              aliases,
            },
          }),
    },
    denied,
  };
}

async function allGrants(client: KMSClient, keyArn: string): Promise<object[]> {
  const grants: object[] = [];
  let pages = 0;
  for await (const page of paginateListGrants({ client, stopOnSameToken: true }, { KeyId: keyArn })) {
    pages += 1;
    if (pages > PAGES_MAX) throw unreadable(keyArn, 'kms:ListGrants');
    for (const grant of page.Grants ?? []) grants.push(plain(grant));
  }
  return grants;
}

/** Dates and what else the SDK makes of the answer do not decide who may call. */
function plain({
  GrantId,
  GranteePrincipal,
  Operations,
  Constraints,
  IssuingAccount,
}: GrantListEntry): object {
  return { GrantId, GranteePrincipal, Operations, Constraints, IssuingAccount };
}

async function allAliases(client: KMSClient, keyArn: string): Promise<string[]> {
  const names: string[] = [];
  let pages = 0;
  for await (const page of paginateListAliases({ client, stopOnSameToken: true }, { KeyId: keyArn })) {
    pages += 1;
    if (pages > PAGES_MAX) throw unreadable(keyArn, 'kms:ListAliases');
    for (const { AliasName } of page.Aliases ?? []) if (AliasName !== undefined) names.push(AliasName);
  }
  return names;
}

function isRefusal(error: unknown): boolean {
  const name = (error as { name?: unknown }).name;
  return name === 'AccessDeniedException' || name === 'UnsupportedOperationException';
}

function unreadable(keyArn: string, call: string, cause?: unknown): CommandError {
  if (cause instanceof CommandError) return cause;
  const found = cause instanceof Error ? `: ${cause.message}` : '';
  return new CommandError('KEY_UNREADABLE', `${call} of ${keyArn} was not answered${found}`, cause);
}
