import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { createEvidenceIssuer } from '../enclave/evidence.ts';
import { nsmClient } from '../enclave/nsm/client.ts';
import { ReceiptIssuer } from '../enclave/receipts.ts';
import { createTlsIdentity } from '../enclave/tls-identity.ts';
import type { LoadedModel } from '../shared/evidence/evidence.ts';
import { DEPLOYMENT_PCR, PCR_COUNT, pcrOfMeasuredBytes } from '../shared/pcr.ts';
import { TLS_PROFILE } from '../shared/tls-profile.ts';
import { SERIAL_BYTES } from '../shared/x509/write.ts';
import { createSimulatedCa } from './nsm/ca.ts';
import { newInstanceId, newModuleId } from './nsm/identity.ts';
import { SoftwareNsm } from './nsm/software-nsm.ts';

export interface EvidenceEndpoint {
  readonly url: string;
  /** What a client must expect of it. */
  readonly expectations: {
    readonly pcrs: { readonly 0: string; readonly 16: string };
    readonly simulationRoot: string;
  };
  close(): void;
}

/**
 * The part of an enclave that clients verify, without the rest: the enclave's own TLS identity and evidence
 * over a software NSM, on a loopback port. For trying and timing a client; it answers 404 to everything else.
 */
export async function startEvidenceEndpoint(models: readonly LoadedModel[]): Promise<EvidenceEndpoint> {
  const now = () => new Date();
  const ca = await createSimulatedCa({ region: 'eu-central-1', now: now() });
  const image = randomBytes(48);
  const software = await SoftwareNsm.create({
    ca,
    moduleId: newModuleId(newInstanceId(), now()),
    pcrs: { 0: image, 1: randomBytes(48), 2: randomBytes(48) },
    now,
  });
  const nsm = nsmClient((request) => software.handle(request));
  const deployment = randomBytes(32);
  const deploymentSha384 = createHash('sha384').update(deployment).digest();
  await nsm.extendPcr(DEPLOYMENT_PCR, deploymentSha384);
  await nsm.lockPcrs(PCR_COUNT);

  const identity = createTlsIdentity(now(), randomBytes(SERIAL_BYTES));
  const receipts = new ReceiptIssuer({ nsm, deploymentSha384, now });
  const evidence = createEvidenceIssuer({
    nsm,
    spkiSha256: identity.spkiSha256,
    receiptKey: receipts.publicKey,
    deploymentSha384,
    currentModels: () => ({ models }),
    monotonicMs: () => performance.now(),
    onFailure: () => {},
    limits: {
      overall: { burst: 10_000, perSecond: 10_000 },
      perConnection: { burst: 4, perSecond: 1 },
      queueLength: 64,
    },
  });
  const server = createServer(
    { ...TLS_PROFILE, key: Buffer.from(identity.key.buffer), cert: identity.certificatePem },
    async (request, response) => {
      const url = new URL(request.url ?? '/', 'https://enclave');
      if (url.pathname !== '/attestation') {
        response.writeHead(404).end();
        return;
      }
      const answer = await evidence.answer(request.socket as TLSSocket, url.searchParams.get('nonce'));
      response.writeHead(answer.status, answer.headers).end(answer.body);
    },
  );
  identity.key.fill(0);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    expectations: {
      pcrs: {
        0: image.toString('hex'),
        16: Buffer.from(pcrOfMeasuredBytes(deployment)).toString('hex'),
      },
      simulationRoot: ca.rootPem,
    },
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}
