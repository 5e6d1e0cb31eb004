/**
 * The production image, as `image build` makes it: everything up to KMS works, and there it refuses, because the
 * root of the simulated KMS is not Amazon's.
 */
import assert from 'node:assert/strict';
import { nsmClient } from '../../../enclave/nsm/client.ts';
import { nsmDevice } from '../../../enclave/nsm/device.ts';
import { DEPLOYMENT_PCR, pcrOfMeasuredBytes } from '../../../shared/pcr.ts';
import { check } from './check.ts';
import { FAULT } from './nsm-fault.ts';
import type { Outside } from './outside.ts';

export async function checkRefusedImage(outside: Outside, ended: Promise<number>): Promise<void> {
  await check('production image: it refuses the simulated KMS, and ends', async () => {
    assert.equal(await ended, 1);
    // The same steps end in a released key where the root is accepted: see the stand-in image.
    assert.deepEqual(outside.events.steps(), ['deployment-measured', 'model-checked']);
    const tunnels = outside.events.seen.filter(({ event }) => event === 'egress-closed');
    assert.ok(tunnels.length > 0);
    for (const { destination, up, down } of tunnels) {
      assert.equal(destination, outside.kmsDestination);
      assert.ok(Number(up) > 0 && Number(down) > 0, 'TLS went both ways');
    }
    assert.ok(!outside.kmsRecords().includes('Decrypt'), 'KMS was asked nothing');
    return `connections to ${outside.kmsDestination}: ${tunnels.length}, requests: none`;
  });
  await check('production image: it seeded itself, measured its deployment and attested', async () => {
    const send = nsmDevice();
    const kinds = JSON.parse(
      Buffer.from(await send(Buffer.from(`${FAULT}{"kinds":true}`))).toString(),
    ) as string[];
    assert.equal(kinds[0], 'GetRandom');
    for (const once of ['ExtendPCR', 'LockPCRs'])
      assert.equal(kinds.filter((kind) => kind === once).length, 1);
    assert.equal(kinds.at(-1), 'Attestation');
    const { lock, data } = await nsmClient(send).describePcr(DEPLOYMENT_PCR);
    assert.equal(lock, true);
    assert.deepEqual(Buffer.from(data), Buffer.from(pcrOfMeasuredBytes(outside.deployment)));
    return kinds.filter((kind, index) => kind !== kinds[index - 1]).join(', ');
  });
}
