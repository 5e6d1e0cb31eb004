/**
 * The enclave binds itself to its deployment (docs/flow.md, step 3; docs/deployment.md).
 *
 * The parent chooses which document it hands over. What it cannot choose is which one is then measured: PCR16
 * is extended once with the document's digest and all registers are locked, so KMS and every caller see it.
 */
import { createHash } from 'node:crypto';
import { DEPLOYMENT_MAX_BYTES, type Deployment, parseDeployment } from '../shared/deployment/deployment.ts';
import { DEPLOYMENT_PCR, isZeroPcr, PCR_COUNT, pcrOfMeasuredBytes } from '../shared/pcr.ts';
import { BootError } from './errors.ts';
import type { HostService } from './host/host-service.ts';
import type { Nsm } from './nsm/client.ts';

export class MeasuredDeployment {
  readonly deployment: Deployment;
  /** SHA-384 of the document's bytes; extending a zero register with it gives PCR16. */
  readonly digest: Uint8Array;

  constructor(maker: typeof MAKER, deployment: Deployment, digest: Uint8Array) {
    if (maker !== MAKER) throw new TypeError('a MeasuredDeployment is made by measureDeployment alone');
    this.deployment = deployment;
    this.digest = digest;
  }
}

const MAKER = Symbol('measureDeployment');

/** Measures the parent's deployment document into PCR16, locks every register, and reads them all back. */
export async function measureDeployment(
  nsm: Nsm,
  host: Pick<HostService, 'fetchDeployment'>,
): Promise<MeasuredDeployment> {
  const before = await nsm.describePcr(DEPLOYMENT_PCR);
  if (before.lock || !isZeroPcr(before.data)) {
    throw new BootError(
      'BOOT_ALREADY_MEASURED',
      `Expected PCR${DEPLOYMENT_PCR} unlocked and zero, found it ${before.lock ? 'locked' : 'already extended'}.`,
    );
  }
  const bytes = await host.fetchDeployment();
  if (bytes.length > DEPLOYMENT_MAX_BYTES)
    throw new RangeError('the host service bounds the deployment document');
  // Parsed before it is measured: a document that cannot be obeyed leaves no mark and stops the boot.
  const deployment = parseDeployment(bytes);
  const digest = createHash('sha384').update(bytes).digest();
  await nsm.extendPcr(DEPLOYMENT_PCR, digest);
  await nsm.lockPcrs(PCR_COUNT);
  await confirmRegisters(nsm, pcrOfMeasuredBytes(bytes));
  return new MeasuredDeployment(MAKER, deployment, digest);
}

async function confirmRegisters(nsm: Nsm, expectedDeploymentPcr: Uint8Array): Promise<void> {
  for (let index = 0; index < PCR_COUNT; index++) {
    const { lock, data } = await nsm.describePcr(index);
    if (!lock) throw mismatch(`Expected PCR${index} locked, found it open.`);
    if (index === DEPLOYMENT_PCR && !Buffer.from(data).equals(expectedDeploymentPcr)) {
      throw mismatch(`Expected PCR${index} to hold the deployment's measurement, found another value.`);
    }
    if (index > DEPLOYMENT_PCR && !isZeroPcr(data)) {
      throw mismatch(`Expected PCR${index} zero, found it extended by something else.`);
    }
  }
}

function mismatch(message: string): BootError {
  return new BootError('BOOT_MEASUREMENT_MISMATCH', message);
}
