/** The NSM client and its device, through the kernel, against /dev/nsm. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, statSync } from 'node:fs';
import { constants } from 'node:os';
import { nsmClient } from '../../../enclave/nsm/client.ts';
import { NSM_IOCTL, nsmDevice } from '../../../enclave/nsm/device.ts';
import { simulationAnchor } from '../../../shared/attestation/anchors.ts';
import { parseAttestationDocument } from '../../../shared/attestation/parse.ts';
import { verifyAttestationDocument } from '../../../shared/attestation/verify.ts';
import { NSM_ERROR_NAMES } from '../../../shared/nsm/response.ts';
import { check, codeOf } from './check.ts';
import { Helper } from './helper.ts';
import { insertModules } from './link.ts';
import { type DeviceReady, FAULT, type Fault } from './nsm-fault.ts';

const NO_FIELDS = { userData: null, nonce: null, publicKey: null };
const PCR = (fill: string): string => fill.repeat(96);

export async function checkNsm(): Promise<void> {
  await check('nsm: a machine without the device is named', async () => {
    assert.equal(await codeOf(nsmDevice()(new Uint8Array(1))), 'NSM_DEVICE_MISSING');
    return undefined;
  });
  insertModules(['fuse', 'cuse']);
  const { helper, ready } = await Helper.start('nsm-device.ts', {
    region: 'eu-central-1',
    instanceId: 'i-0368fa67e156d6d23',
    pcrs: { 0: PCR('1'), 1: PCR('2'), 2: PCR('3'), 3: PCR('4') },
  });
  await deviceAppears();
  chmodSync('/dev/nsm', 0o666);
  const send = nsmDevice();
  const nsm = nsmClient(send);
  const { moduleId, rootPem } = ready as DeviceReady;

  await check('nsm: every request is answered', () => everyRequest(nsm, moduleId, rootPem));
  await check('nsm: the device is its owner’s alone from the first request on', async () => {
    assert.equal(statSync('/dev/nsm').mode & 0o777, 0o600);
    return undefined;
  });
  await check('nsm: errors that the NSM itself gives', async () => {
    assert.equal(await codeOf(nsm.describePcr(32)), 'NSM_INVALID_INDEX');
    assert.equal(await codeOf(nsm.extendPcr(0, Uint8Array.of(1))), 'NSM_READ_ONLY_INDEX');
    assert.equal(await codeOf(nsm.lockPcr(0)), 'NSM_READ_ONLY_INDEX');
    assert.equal(await codeOf(nsm.lockPcrs(33)), 'NSM_INVALID_INDEX');
    assert.equal(await codeOf(nsmClient(() => send(Uint8Array.of(0xff))).random()), 'NSM_INVALID_OPERATION');
    return undefined;
  });
  await check('nsm: every error name has its code', async () => {
    for (const error of NSM_ERROR_NAMES) {
      const code = `NSM_${error.replace(/(?!^)[A-Z]/g, '_$&').toUpperCase()}`;
      assert.equal(await codeOf(nsmClient(() => send(fault({ error }))).random()), code);
    }
    return NSM_ERROR_NAMES.join(' ');
  });
  await check('nsm: every errno of the driver has its code and its name', async () => {
    const { EMSGSIZE, EINVAL, ETIMEDOUT, EFAULT, EIO, ENOTTY } = constants.errno;
    const expected = { EMSGSIZE, EINVAL, ETIMEDOUT, EFAULT, EIO, ENOTTY };
    for (const [name, errno] of Object.entries(expected)) {
      const code = name === 'EMSGSIZE' ? 'NSM_INPUT_TOO_LARGE' : 'NSM_DEVICE_FAILED';
      await assert.rejects(send(fault({ errno })), (error: Error & { code?: string }) => {
        assert.equal(error.code, code);
        assert.match(error.message, new RegExp(`\\b${name}\\b`));
        return true;
      });
    }
    assert.equal(await codeOf(nsmDevice('/dev/null')(new Uint8Array(1))), 'NSM_DEVICE_FAILED');
    return `${Object.keys(expected).join(' ')}; request number 0x${NSM_IOCTL.toString(16)}`;
  });
  await check('nsm: a request beyond 4096 bytes is refused, one of 4096 arrives', async () => {
    assert.equal(await codeOf(send(new Uint8Array(4097))), 'NSM_INPUT_TOO_LARGE');
    const padded = Buffer.alloc(4096, ' ');
    fault({ counts: true }).copy(padded);
    assert.match(Buffer.from(await send(padded)).toString(), /"served"/);
    return undefined;
  });
  await check('nsm: a reported length beyond the buffer is refused', async () => {
    assert.equal(await codeOf(send(fault({ reportedLength: 12_289 }))), 'NSM_ANSWER_UNUSABLE');
    return undefined;
  });
  await check('nsm: a slow device does not hold up the event loop', () => slowDevice(send));
  await check('nsm: 40 requests at once reach the device one at a time', async () => {
    const documents = await Promise.all(Array.from({ length: 40 }, () => nsm.attest(NO_FIELDS)));
    assert.equal(new Set(documents.map((document) => Buffer.from(document).toString('hex'))).size, 40);
    const counts = JSON.parse(Buffer.from(await send(fault({ counts: true }))).toString());
    assert.equal(counts.mostAtOnce, 1);
    return JSON.stringify(counts);
  });
  await check('nsm: requests past the client do meet each other, so the count counts', async () => {
    await Promise.all([send(fault({ delayMs: 300 })), send(fault({ delayMs: 300 }))]);
    const counts = JSON.parse(Buffer.from(await send(fault({ counts: true }))).toString());
    assert.ok(counts.mostAtOnce > 1);
    return JSON.stringify(counts);
  });
  await helper.kill();
  await check('nsm: a device that has gone fails, and does not hang', async () => {
    assert.equal(await codeOf(nsm.random()), 'NSM_DEVICE_FAILED');
    return undefined;
  });
}

/** devtmpfs makes the node a moment after CUSE's answer. */
export async function deviceAppears(): Promise<void> {
  while (!existsSync('/dev/nsm')) await new Promise((resolve) => setTimeout(resolve, 5));
}

async function everyRequest(
  nsm: ReturnType<typeof nsmClient>,
  moduleId: string,
  rootPem: string,
): Promise<string> {
  const description = await nsm.describe();
  assert.equal(description.moduleId, moduleId);
  assert.equal(description.maxPcrs, 32);
  assert.deepEqual(description.lockedPcrs, [...Array(16).keys()]);
  const random = await nsm.random();
  assert.equal(random.length, 256);
  assert.notDeepEqual(await nsm.random(), random);
  assert.equal(Buffer.from((await nsm.describePcr(0)).data).toString('hex'), PCR('1'));
  const extended = createHash('sha384').update(new Uint8Array(48)).update('deployment').digest('hex');
  const value = await nsm.extendPcr(16, Buffer.from('deployment'));
  assert.equal(Buffer.from(value).toString('hex'), extended);
  await nsm.lockPcr(17);
  await nsm.lockPcrs(32);
  assert.equal((await nsm.describePcr(31)).lock, true);

  const fields = {
    userData: new Uint8Array(512).fill(1),
    nonce: new Uint8Array(512).fill(2),
    publicKey: new Uint8Array(512).fill(3),
  };
  const document = await nsm.attest(fields);
  const at = new Date();
  const verified = verifyAttestationDocument(parseAttestationDocument(document), {
    anchors: [simulationAnchor(rootPem)],
    at,
  });
  assert.equal(Buffer.from(verified.fields.pcrs.get(16) ?? []).toString('hex'), extended);
  assert.deepEqual(Buffer.from(verified.fields.nonce ?? []), Buffer.from(fields.nonce));
  return `a verified document of ${document.length} bytes`;
}

async function slowDevice(send: (request: Uint8Array) => Promise<Uint8Array>): Promise<string> {
  let turns = 0;
  const timer = setInterval(() => {
    turns += 1;
  }, 10);
  await send(fault({ delayMs: 2_000 }));
  clearInterval(timer);
  assert.ok(turns >= 10, `${turns} turns`);
  return `${turns} turns of the event loop during one ioctl of 2 s`;
}

function fault(value: Fault): Buffer {
  return Buffer.from(`${FAULT}${JSON.stringify(value)}`);
}
