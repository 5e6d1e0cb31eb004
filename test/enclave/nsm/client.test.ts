import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { type Nsm, nsmClient } from '../../../enclave/nsm/client.ts';
import { encodeNsmResponse } from '../../../shared/nsm/device-side.ts';
import { NSM_ERROR_NAMES, type NsmResponse } from '../../../shared/nsm/response.ts';
import { createSimulatedCa } from '../../../simulator/nsm/ca.ts';
import { SoftwareNsm } from '../../../simulator/nsm/software-nsm.ts';

const MODULE_ID = 'i-0368fa67e156d6d23-enc019b8596b1a9dad6';
const NO_FIELDS = { userData: null, nonce: null, publicKey: null };

async function softwareNsm(): Promise<Nsm> {
  const at = new Date('2026-01-03T20:40:28Z');
  const ca = await createSimulatedCa({ region: 'us-east-1', now: at });
  const pcr = new Uint8Array(48).fill(1);
  const nsm = await SoftwareNsm.create({
    ca,
    moduleId: MODULE_ID,
    pcrs: { 0: pcr, 1: pcr, 2: pcr },
    now: () => at,
  });
  return nsmClient((request) => nsm.handle(request));
}

const answering = (response: NsmResponse) => nsmClient(async () => encodeNsmResponse(response));

describe('the NSM client, over the software NSM', () => {
  it('describes the device', async () => {
    expect(await (await softwareNsm()).describe()).toEqual({
      version: '1.0.0',
      moduleId: MODULE_ID,
      maxPcrs: 32,
      lockedPcrs: Array.from({ length: 16 }, (_, index) => index),
    });
  });

  it('gets 256 fresh random bytes at a time', async () => {
    const nsm = await softwareNsm();
    const [first, second] = await Promise.all([nsm.random(), nsm.random()]);
    expect(first).toHaveLength(256);
    expect(first).not.toEqual(second);
  });

  it('extends, reads and locks a register', async () => {
    const nsm = await softwareNsm();
    const value = createHash('sha384').update(new Uint8Array(48)).update('deployment').digest();
    expect(Buffer.from(await nsm.extendPcr(16, Buffer.from('deployment')))).toEqual(value);
    await nsm.lockPcr(17);
    await nsm.lockPcrs(32);
    const { lock, data } = await nsm.describePcr(16);
    expect(lock).toBe(true);
    expect(Buffer.from(data)).toEqual(value);
    await expect(nsm.extendPcr(16, Uint8Array.of(1))).rejects.toMatchObject({ code: 'NSM_READ_ONLY_INDEX' });
    await expect(nsm.lockPcr(17)).rejects.toMatchObject({ code: 'NSM_READ_ONLY_INDEX' });
    await expect(nsm.lockPcrs(33)).rejects.toMatchObject({ code: 'NSM_INVALID_INDEX' });
    await expect(nsm.describePcr(32)).rejects.toMatchObject({ code: 'NSM_INVALID_INDEX' });
  });

  it('gets a document', async () => {
    const document = await (await softwareNsm()).attest({ ...NO_FIELDS, nonce: new Uint8Array(32) });
    expect(document[0]).toBe(0x84);
  });
});

describe('the NSM client', () => {
  it.each(NSM_ERROR_NAMES)('has a code of its own for %s', async (error) => {
    const code = `NSM_${error.replace(/(?!^)[A-Z]/g, '_$&').toUpperCase()}`;
    await expect(answering({ kind: 'Error', error }).random()).rejects.toMatchObject({
      code,
      message: `The NSM answered GetRandom with ${error}.`,
    });
  });

  it('refuses an answer to another request', async () => {
    const nsm = answering({ kind: 'GetRandom', random: new Uint8Array(256) });
    for (const call of [
      () => nsm.describe(),
      () => nsm.describePcr(0),
      () => nsm.extendPcr(16, Uint8Array.of(1)),
      () => nsm.lockPcr(16),
      () => nsm.lockPcrs(32),
      () => nsm.attest(NO_FIELDS),
    ]) {
      await expect(call()).rejects.toMatchObject({ code: 'NSM_ANSWER_UNUSABLE' });
    }
    await expect(answering({ kind: 'LockPCR' }).lockPcrs(32)).rejects.toMatchObject({
      code: 'NSM_ANSWER_UNUSABLE',
    });
  });

  it('refuses an answer that is no answer', async () => {
    const nsm = nsmClient(async () => Uint8Array.of(0xff));
    await expect(nsm.random()).rejects.toMatchObject({ code: 'NSM_ANSWER_UNUSABLE' });
  });

  it('has one request under way at a time, and a failed one does not stop the next', async () => {
    let underWay = 0;
    let asked = 0;
    const nsm = nsmClient(async () => {
      underWay += 1;
      expect(underWay).toBe(1);
      await new Promise((resolve) => setTimeout(resolve, 2));
      underWay -= 1;
      asked += 1;
      if (asked === 2) throw new Error('the device failed');
      return encodeNsmResponse({ kind: 'GetRandom', random: Uint8Array.of(asked) });
    });
    const answers = await Promise.allSettled([nsm.random(), nsm.random(), nsm.random()]);
    expect(answers.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  });
});
