/** An enclave that serves two clients with certificates and goes by a deny list, and whatever its parent brings it. */
import { generateKeyPairSync } from 'node:crypto';
import { expect, onTestFinished } from 'vitest';
import { type DenyListEvent, DenyListWatch } from '../../enclave/clients/deny-list.ts';
import type { Denied } from '../../shared/deny-list/deny-list.ts';
import { signDenyList } from '../../shared/deny-list/sign.ts';
import { hours, testCa, testClient } from './client-certificates.ts';
import { APP, allow, doorOf, rulesOf } from './door.ts';
import { fakeEngine, NONCE, servedModel, serveForTest } from './serving.ts';

/** The CA of the deployment. */
export const ca = testCa();
/** Of its deny lists. */
export const signer = generateKeyPairSync('ec', { namedCurve: 'P-256' });
export const OTHER = 'spiffe://models.example.org/app-2';
const METADATA = {
  inputs: [{ name: 'x', datatype: 'FP32', shape: [1] }],
  outputs: [{ name: 'y', datatype: 'FP32', shape: [1] }],
} as const;

export const list = (
  sequence: number,
  denied: readonly Denied[] = [],
  life: [Date, Date] = [hours(-1), hours(1)],
) => signDenyList({ sequence, issuedAt: life[0], expiresAt: life[1], denied }, signer.privateKey);
export const spiffe = (value: string): Denied => ({ kind: 'spiffe', value });

/** A parent that brings whatever `bring` holds, and a server behind the door. */
export async function denyingEnclave(first?: Uint8Array, now: () => Date = () => new Date()) {
  let brought = first;
  let fetches = 0;
  const events: DenyListEvent[] = [];
  const denyList = await DenyListWatch.start({
    fetch: async () => {
      fetches += 1;
      if (brought === undefined) throw new Error('the parent has none');
      return brought;
    },
    signer: signer.publicKey,
    now,
    observe: (event) => events.push(event),
    refreshMs: 10,
  });
  const server = await serveForTest({
    models: [servedModel(fakeEngine(METADATA, () => new Promise(() => {})))],
    door: doorOf(
      rulesOf(ca, {
        allowed: [allow('spiffe', APP), allow('spiffe', OTHER)],
        denyListSigner: signer.publicKey,
      }),
      {
        denyList,
        now,
      },
    ),
  });
  onTestFinished(() => server[Symbol.asyncDispose]());
  return {
    server,
    events,
    /** Resolves when the enclave has looked at it. */
    bring: async (bytes: Uint8Array | undefined) => {
      brought = bytes;
      const before = fetches;
      await expect.poll(() => fetches).toBeGreaterThan(before + 1);
    },
    first: async (client = testClient(ca, { uris: [APP] })) => {
      const connection = await server.connect({ evidence: false, ...client });
      const { status, json, headers } = await connection.ask('GET', `/attestation?nonce=${NONCE}`);
      connection.close();
      return { status, code: json.code, retryAfter: headers['retry-after'] };
    },
  };
}

/** What the first request of a client gets. */
export const SERVED = { status: 200, code: undefined, retryAfter: undefined };
export const DENIED = { status: 403, code: 'CALLER_DENIED', retryAfter: undefined };
export const SUSPENDED = { status: 503, code: 'CALLERS_SUSPENDED', retryAfter: '10' };
