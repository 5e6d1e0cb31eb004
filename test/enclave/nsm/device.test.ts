import {
  chmodSync,
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import koffi from 'koffi';
import { describe, expect, it } from 'vitest';
import { NSM_IOCTL, nsmDevice, packArgument } from '../../../enclave/nsm/device.ts';
import { describeWithVectors } from '../../vectors.ts';

const ANY_REQUEST = Uint8Array.of(0x60);

describe('the NSM device', () => {
  it('says that this is no enclave when the device is missing', async () => {
    await expect(nsmDevice('/dev/no-such-nsm')(ANY_REQUEST)).rejects.toMatchObject({
      code: 'NSM_DEVICE_MISSING',
      message: expect.stringContaining('not a Nitro enclave'),
    });
  });

  it('says so when a folder is in the place of the device', async () => {
    await expect(nsmDevice(tmpdir())(ANY_REQUEST)).rejects.toMatchObject({
      code: 'NSM_DEVICE_FAILED',
      message: expect.stringContaining('EISDIR'),
    });
  });

  it('reports the errno of the ioctl made on another thread', async () => {
    using file = otherFile();
    await expect(nsmDevice(file.path)(ANY_REQUEST)).rejects.toMatchObject({
      code: 'NSM_DEVICE_FAILED',
      message: `${file.path} is not an NSM device (ENOTTY).`,
    });
  });

  it('is closed to every other user from the first request on: the kernel makes it with mode 0666', async () => {
    using file = otherFile();
    chmodSync(file.path, 0o666);
    await expect(nsmDevice(file.path)(ANY_REQUEST)).rejects.toThrow();
    expect(statSync(file.path).mode & 0o777).toBe(0o600);
  });

  it('refuses a request that the driver would refuse', async () => {
    using file = otherFile();
    const send = nsmDevice(file.path);
    await expect(send(new Uint8Array(4097))).rejects.toMatchObject({ code: 'NSM_INPUT_TOO_LARGE' });
    await expect(send(new Uint8Array(4096))).rejects.toMatchObject({ code: 'NSM_DEVICE_FAILED' });
  });

  it('packs two iovecs that the kernel follows to the right bytes', () => {
    const folder = mkdtempSync(join(tmpdir(), 'strongroom-nsm-'));
    const request = bytes('request of 21 bytes!!');
    const response = bytes('response');
    const argument = packArgument(request, response);
    expect(argument).toHaveLength(32);
    writeFileSync(join(folder, 'out'), '');
    const fd = openSync(join(folder, 'out'), 'w');
    const writev = koffi.load('libc.so.6').func('intptr_t writev(int fd, void *iovecs, int count)');
    expect(writev(fd, argument, 2)).toBe(29);
    closeSync(fd);
    expect(readFileSync(join(folder, 'out'), 'latin1')).toBe('request of 21 bytes!!response');
    rmSync(folder, { recursive: true });
  });
});

/** A file that can be opened as the device is, and is none. */
function otherFile(): Disposable & { readonly path: string } {
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-nsm-'));
  const path = join(folder, 'nsm');
  writeFileSync(path, '');
  return { path, [Symbol.dispose]: () => rmSync(folder, { recursive: true }) };
}

function bytes(text: string): Uint8Array {
  const result = new Uint8Array(new ArrayBuffer(text.length));
  result.set(Buffer.from(text, 'latin1'));
  return result;
}

describeWithVectors('the published ioctl number', (folder) => {
  it('is the one we send', () => {
    const { ioctl } = JSON.parse(readFileSync(join(folder, 'nsm', 'nsm-cbor.json'), 'utf8'));
    expect(NSM_IOCTL).toBe(ioctl.number_dec);
  });
});
