/**
 * A KMS for one simulation (docs/simulated-kms.md): KMS's own protocol over TLS with signed requests, key
 * policies, IAM policies and grants that are enforced, and attestation documents that are verified.
 */
import { appendFileSync, closeSync, openSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TrustAnchor } from '../../shared/attestation/anchors.ts';
import { parseGrant } from '../../shared/policy/grants.ts';
import { parsePolicy } from '../../shared/policy/parse.ts';
import { type AuditRecord, rotationRecord } from './audit.ts';
import { wireTime } from './call.ts';
import { Faults } from './faults.ts';
import { KeyStore } from './keys.ts';
import { callersByAccessKey, type SimulatedPrincipal } from './principals.ts';
import { serve, type Wire } from './server.ts';
import { createServerTls, kmsHost } from './tls.ts';

export interface SimulatedKmsOptions {
  readonly region: string;
  readonly accountId: string;
  /** Everybody who can sign a request; several credentials may belong to one ARN. */
  readonly principals: readonly SimulatedPrincipal[];
  /** Whose attestation documents are genuine here. The real KMS has AWS's root; a simulation has its own. */
  readonly attestationAnchors: readonly TrustAnchor[];
  /** Keys that exist before the first request. */
  readonly keys?: readonly ExistingKey[];
  readonly now: () => Date;
  /** 127.0.0.1 and a free port unless given. */
  readonly listen?: { readonly host?: string; readonly port?: number };
  /** Where CloudTrail-shaped records go: a file that is appended to, one JSON document a line, or a function. */
  readonly auditLog?: string | ((record: AuditRecord) => void);
}

/**
 * A key under a given id. Its policy may break what CreateKey asks of a policy today: AWS still holds documents
 * from before August 2025, and evaluates them.
 */
export interface ExistingKey {
  readonly keyId: string;
  readonly policy: string;
  /** As ListGrants shows them. */
  readonly grants?: readonly object[];
  readonly multiRegion?: boolean;
}

export interface SimulatedKms {
  /** `kms.REGION.amazonaws.com`, the only name in the server's certificate. */
  readonly host: string;
  readonly port: number;
  readonly caCertificatePem: string;
  readonly faults: Faults;
  /** Closes every connection and wipes the key material. */
  close(): Promise<void>;
}

/** Throws TypeError or PolicyError if the options cannot stand, before anything listens. */
export async function startSimulatedKms(options: SimulatedKmsOptions): Promise<SimulatedKms> {
  const { region, accountId, now, listen = {} } = options;
  if (options.attestationAnchors.length === 0)
    throw new TypeError('expected at least one attestation anchor');
  const callers = callersByAccessKey(options.principals);
  const log = openLog(options.auditLog);
  const keys = new KeyStore(region, (key, type, at) => log.write(rotationRecord(key, type, { region, at })));
  for (const key of options.keys ?? []) addExistingKey(keys, accountId, key, now());
  const faults = new Faults();
  const wire: Wire = {
    world: { region, keys, attestationAnchors: options.attestationAnchors },
    accountId,
    callers,
    now,
    faults,
    audit: log.write,
    lastBodies: new Map(),
  };
  const tls = await createServerTls(region, now());
  const server = createServer(
    { key: tls.keyPem, cert: tls.chainPem, minVersion: 'TLSv1.2' },
    (request, response) => {
      serve(wire, request, response).catch(() => response.destroy());
    },
  );
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(listen.port ?? 0, listen.host ?? '127.0.0.1', resolve);
  });
  return {
    host: kmsHost(region),
    port: (server.address() as AddressInfo).port,
    caCertificatePem: tls.caCertificatePem,
    faults,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
      keys.wipe();
      wire.lastBodies.clear();
      log.close();
    },
  };
}

function addExistingKey(keys: KeyStore, accountId: string, existing: ExistingKey, createdAt: Date): void {
  const { keyId, policy, multiRegion = false, grants = [] } = existing;
  const key = keys.create({
    ...keys.name(accountId, keyId),
    accountId,
    description: '',
    multiRegion,
    createdAt,
    policyText: policy,
    policy: parsePolicy(Buffer.from(policy, 'utf8'), 'key'),
  });
  for (const entry of grants) {
    const grant = parseGrant(entry);
    const shown = { KeyId: key.arn, CreationDate: wireTime(createdAt), ...entry, GrantId: grant.grantId };
    key.grants.set(grant.grantId, { entry: shown, token: '', grant });
  }
}

function openLog(target: SimulatedKmsOptions['auditLog']) {
  if (typeof target !== 'string') return { write: target ?? (() => {}), close: () => {} };
  const file = openSync(target, 'a', 0o600);
  return {
    write: (record: AuditRecord) => appendFileSync(file, `${JSON.stringify(record)}\n`),
    close: () => closeSync(file),
  };
}
