/** A simulated KMS with one wrapped data key, an enclave's NSM in this process, and a host of three lines. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { CreateKeyCommand, EncryptCommand } from '@aws-sdk/client-kms';
import type { KmsConnection } from '../../../enclave/kms/client.ts';
import { type ReleaseRequest, releaseDataKey } from '../../../enclave/kms/release.ts';
import { nsmClient } from '../../../enclave/nsm/client.ts';
import { type KmsKey, parseKmsKeyArn } from '../../../shared/deployment/kms-key.ts';
import { codeOf } from '../../../shared/errors.ts';
import { newInstanceId, newModuleId } from '../../../simulator/nsm/identity.ts';
import { SoftwareNsm } from '../../../simulator/nsm/software-nsm.ts';
import { admin, allow, host, keyPolicy, pcr, type Stand, startStand } from '../../simulator/kms/support.ts';

export const CONTEXT = { 'strongroom-model': 'iris', 'strongroom-purpose': 'model-data-key' };
export const IMAGE = pcr(0x0a);

export interface ReleaseStand {
  readonly stand: Stand;
  readonly key: KmsKey;
  readonly dataKey: Uint8Array;
  readonly ciphertextBlob: Uint8Array;
  readonly nsm: SoftwareNsm;
  /** What the enclave asks by default, over `tunnels`. */
  request(tunnels: Tunnels, change?: Partial<ReleaseRequest>): ReleaseRequest;
  release(change?: Partial<ReleaseRequest>): Promise<Uint8Array>;
  wrap(plaintext: Uint8Array): Promise<Uint8Array>;
  /** How often KMS was asked to decrypt so far. */
  decrypts(): number;
  close(): Promise<void>;
}

export async function startReleaseStand(): Promise<ReleaseStand> {
  const now = (): Date => new Date();
  const stand = await startStand([admin, host], now);
  const client = stand.client(admin);
  const pinned = {
    StringEqualsIgnoreCase: { 'kms:RecipientAttestation:PCR0': Buffer.from(IMAGE).toString('hex') },
  };
  const Policy = keyPolicy(allow(host, 'kms:Decrypt', pinned));
  const arn = (await client.send(new CreateKeyCommand({ Policy }))).KeyMetadata?.Arn ?? '';
  const wrap = async (Plaintext: Uint8Array): Promise<Uint8Array> => {
    const request = { KeyId: arn, Plaintext, EncryptionContext: CONTEXT };
    return (await client.send(new EncryptCommand(request))).CiphertextBlob as Uint8Array;
  };
  const dataKey = new Uint8Array(randomBytes(32));
  const ciphertextBlob = await wrap(dataKey);
  const nsm = await SoftwareNsm.create({
    ca: stand.ca,
    moduleId: newModuleId(newInstanceId(), now()),
    pcrs: { 0: IMAGE, 1: pcr(1), 2: pcr(2) },
    now,
  });
  const key = parseKmsKeyArn(arn);
  const request = (tunnels: Tunnels, change: Partial<ReleaseRequest> = {}): ReleaseRequest => ({
    nsm: nsmClient((bytes) => nsm.handle(bytes)),
    connection: { host: tunnels, roots: [stand.kms.caCertificatePem] },
    allowedKeys: [key],
    wraps: [{ keyArn: arn, ciphertextBlob }],
    encryptionContext: CONTEXT,
    ...change,
  });
  return {
    stand,
    key,
    dataKey,
    ciphertextBlob,
    nsm,
    request,
    release: (change) => releaseDataKey(request(tunnelsTo(stand.kms.port), change)),
    wrap,
    decrypts: () => stand.records.filter(({ eventName }) => eventName === 'Decrypt').length,
    close: () => stand.close(),
  };
}

export type Tunnels = KmsConnection['host'] & {
  /** Every `host:port` that was asked for. */
  readonly dialled: readonly string[];
  /** How often credentials were asked for. */
  readonly fetched: () => number;
};

/** The parent's part: whatever is dialled, the bytes go to this local port. */
export function tunnelsTo(port: number, expiration = new Date(Date.now() + 3_600_000)): Tunnels {
  const dialled: string[] = [];
  let fetched = 0;
  return {
    dialled,
    fetched: () => fetched,
    connect: async (name, asked) => {
      dialled.push(`${name}:${asked}`);
      const socket = connect(port, '127.0.0.1');
      await once(socket, 'connect');
      return socket;
    },
    fetchCredentials: async () => {
      fetched += 1;
      const { accessKeyId, secretAccessKey, sessionToken = '' } = host;
      return { accessKeyId, secretAccessKey, sessionToken, expiration };
    },
  };
}

/** The stable code that a promise rejects with. */
export async function codeOfRejection(sent: Promise<unknown>): Promise<string | undefined> {
  try {
    await sent;
  } catch (error) {
    return codeOf(error) ?? `not ours: ${String(error)}`;
  }
  throw new Error('expected a refusal, found an answer');
}
