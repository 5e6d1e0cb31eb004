import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { MeasuredDeployment, measureDeployment } from '../../enclave/measure-deployment.ts';
import { type Nsm, nsmClient } from '../../enclave/nsm/client.ts';
import { pcrOfMeasuredBytes } from '../../shared/pcr.ts';
import { createSimulatedCa } from '../../simulator/nsm/ca.ts';
import { newInstanceId, newModuleId } from '../../simulator/nsm/identity.ts';
import { SoftwareNsm } from '../../simulator/nsm/software-nsm.ts';

const signer = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  .publicKey.export({ type: 'spki', format: 'pem' })
  .toString();
const document = (name = 'iris'): Buffer =>
  Buffer.from(
    JSON.stringify({
      format: 'strongroom-deployment/1',
      models: [{ name, minimumVersion: 1, signer }],
      kmsKeys: ['arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab'],
      clients: 'anyone',
    }),
  );
const host = (bytes: Uint8Array) => ({ fetchDeployment: async () => bytes });

let nsm: Nsm;
let raw: SoftwareNsm;

beforeEach(async () => {
  const now = () => new Date();
  const ca = await createSimulatedCa({ region: 'eu-central-1', now: now() });
  raw = await SoftwareNsm.create({
    ca,
    moduleId: newModuleId(newInstanceId(), now()),
    pcrs: { 0: randomBytes(48), 1: randomBytes(48), 2: randomBytes(48) },
    now,
  });
  nsm = nsmClient((request) => raw.handle(request));
});

describe('measuring the deployment', () => {
  it('extends PCR16 with the exact bytes and locks every register', async () => {
    const measured = await measureDeployment(nsm, host(document()));
    expect(measured.deployment.models[0]?.name).toBe('iris');
    expect(Buffer.from(measured.digest)).toEqual(createHash('sha384').update(document()).digest());
    expect(Buffer.from((await nsm.describePcr(16)).data)).toEqual(
      Buffer.from(pcrOfMeasuredBytes(document())),
    );
    for (let index = 0; index < 32; index++) expect((await nsm.describePcr(index)).lock).toBe(true);
  });

  it('gives another PCR16 for another document, if only one byte of white space differs', async () => {
    const measured = await measureDeployment(nsm, host(Buffer.concat([document(), Buffer.from('\n')])));
    expect(Buffer.from(measured.digest)).not.toEqual(createHash('sha384').update(document()).digest());
  });

  it('refuses a second process in the same enclave: the enclave is the unit of restart', async () => {
    await measureDeployment(nsm, host(document()));
    await expect(measureDeployment(nsm, host(document()))).rejects.toMatchObject({
      code: 'BOOT_ALREADY_MEASURED',
    });
  });

  it('refuses a register that somebody extended before', async () => {
    await nsm.extendPcr(16, randomBytes(48));
    await expect(measureDeployment(nsm, host(document()))).rejects.toMatchObject({
      code: 'BOOT_ALREADY_MEASURED',
    });
  });

  it('refuses a register that was locked while zero', async () => {
    await nsm.lockPcrs(32);
    await expect(measureDeployment(nsm, host(document()))).rejects.toMatchObject({
      code: 'BOOT_ALREADY_MEASURED',
    });
  });

  it('refuses when another user register holds something', async () => {
    await nsm.extendPcr(17, randomBytes(48));
    await expect(measureDeployment(nsm, host(document()))).rejects.toMatchObject({
      code: 'BOOT_MEASUREMENT_MISMATCH',
    });
  });

  it('refuses a platform whose register does not hold what was extended', async () => {
    const lying: Nsm = { ...nsm, extendPcr: (index, _data) => nsm.extendPcr(index, randomBytes(48)) };
    await expect(measureDeployment(lying, host(document()))).rejects.toMatchObject({
      code: 'BOOT_MEASUREMENT_MISMATCH',
    });
  });

  it('refuses a platform that does not lock', async () => {
    const open: Nsm = { ...nsm, lockPcrs: async () => {} };
    await expect(measureDeployment(open, host(document()))).rejects.toMatchObject({
      code: 'BOOT_MEASUREMENT_MISMATCH',
    });
  });

  it('leaves no mark for a document that it cannot obey', async () => {
    await expect(measureDeployment(nsm, host(Buffer.from('{}')))).rejects.toMatchObject({
      code: 'DEPLOYMENT_MALFORMED',
    });
    expect(await nsm.describePcr(16)).toMatchObject({ lock: false });
  });

  it('is the only maker of a MeasuredDeployment', async () => {
    const { deployment, digest } = await measureDeployment(nsm, host(document()));
    expect(() => new MeasuredDeployment(Symbol('forged') as never, deployment, digest)).toThrow(TypeError);
  });
});
