import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { releaseDataKey } from '../../../enclave/kms/release.ts';
import { nsmClient } from '../../../enclave/nsm/client.ts';
import { parseAttestationDocument } from '../../../shared/attestation/parse.ts';
import { decodeCbor } from '../../../shared/cbor.ts';
import { parseKmsKeyArn } from '../../../shared/deployment/kms-key.ts';
import type { Fault, FaultScope } from '../../../simulator/kms/faults.ts';
import { newInstanceId, newModuleId } from '../../../simulator/nsm/identity.ts';
import { SoftwareNsm } from '../../../simulator/nsm/software-nsm.ts';
import { pcr } from '../../simulator/kms/support.ts';
import { CONTEXT, codeOfRejection, type ReleaseStand, startReleaseStand, tunnelsTo } from './support.ts';

const OTHER_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/00000000-0000-4000-8000-000000000000';
let at: ReleaseStand;

beforeAll(async () => {
  at = await startReleaseStand();
});
afterEach(() => at.stand.kms.faults.clear());
afterAll(() => at.close());

const inject = (fault: Fault, scope: FaultScope = {}): void =>
  at.stand.kms.faults.inject(fault, { operation: 'Decrypt', ...scope });

describe('releasing a data key', () => {
  it('gives the 32 bytes in an ArrayBuffer of their own, over one tunnel to the one host', async () => {
    const tunnels = tunnelsTo(at.stand.kms.port);
    const released = await releaseDataKey(at.request(tunnels));
    expect(Buffer.from(released).equals(at.dataKey)).toBe(true);
    expect(released.buffer.byteLength).toBe(32);
    expect(tunnels.dialled).toEqual(['kms.eu-central-1.amazonaws.com:443']);
    expect(tunnels.fetched()).toBe(1);
  });

  it('attests to a fresh RSA-2048 key for the purpose "kms" each time', async () => {
    const seen: { spki: string; userData: unknown; nonce: unknown }[] = [];
    const nsm = nsmClient((bytes) => at.nsm.handle(bytes));
    const watching = {
      ...nsm,
      attest: async (asked: Parameters<typeof nsm.attest>[0]) => {
        const document = await nsm.attest(asked);
        const { publicKey, userData, nonce } = parseAttestationDocument(document).untrusted;
        seen.push({
          spki: Buffer.from(publicKey ?? []).toString('hex'),
          userData: decodeCbor(userData ?? new Uint8Array()),
          nonce,
        });
        return document;
      },
    };
    await at.release({ nsm: watching });
    await at.release({ nsm: watching });
    expect(seen).toHaveLength(2);
    expect(seen[0]?.spki).not.toBe(seen[1]?.spki);
    for (const { spki, userData, nonce } of seen) {
      expect(spki.length / 2).toBe(294);
      expect(userData).toEqual(
        new Map<string, unknown>([
          ['v', 1],
          ['purpose', 'kms'],
        ]),
      );
      expect(nonce).toBeNull();
    }
  });

  it('takes the key that the deployment prefers, and passes over wraps of keys that it does not list', async () => {
    const wraps = [
      { keyArn: OTHER_KEY, ciphertextBlob: new Uint8Array(8) },
      { keyArn: at.key.arn, ciphertextBlob: at.ciphertextBlob },
    ];
    expect(Buffer.from(await at.release({ wraps })).equals(at.dataKey)).toBe(true);
  });

  it('asks nobody when model and deployment have no key in common', async () => {
    const before = at.decrypts();
    const tunnels = tunnelsTo(at.stand.kms.port);
    for (const wraps of [[{ keyArn: OTHER_KEY, ciphertextBlob: at.ciphertextBlob }], []]) {
      expect(await codeOfRejection(releaseDataKey(at.request(tunnels, { wraps })))).toBe(
        'KMS_KEY_NOT_ALLOWED',
      );
    }
    const allowedKeys = [parseKmsKeyArn(OTHER_KEY)];
    expect(await codeOfRejection(releaseDataKey(at.request(tunnels, { allowedKeys })))).toBe(
      'KMS_KEY_NOT_ALLOWED',
    );
    expect(tunnels.dialled).toEqual([]);
    expect(tunnels.fetched()).toBe(0);
    expect(at.decrypts()).toBe(before);
  });
});

describe('KMS denies', () => {
  it('another image', async () => {
    const other = await SoftwareNsm.create({
      ca: at.stand.ca,
      moduleId: newModuleId(newInstanceId(), new Date()),
      pcrs: { 0: pcr(0x0b), 1: pcr(1), 2: pcr(2) },
      now: () => new Date(),
    });
    const nsm = nsmClient((bytes) => other.handle(bytes));
    expect(await codeOfRejection(at.release({ nsm }))).toBe('KMS_DENIED');
  });

  it('a register that it reads differently', async () => {
    inject({ kind: 'alter-register', index: 0 });
    expect(await codeOfRejection(at.release())).toBe('KMS_DENIED');
  });

  it('another encryption context', async () => {
    const encryptionContext = { ...CONTEXT, 'strongroom-model': 'another' };
    expect(await codeOfRejection(at.release({ encryptionContext }))).toBe('KMS_DENIED');
  });

  it('a wrap that was tampered with', async () => {
    const ciphertextBlob = Uint8Array.from(at.ciphertextBlob);
    ciphertextBlob[ciphertextBlob.length - 1] = (ciphertextBlob.at(-1) ?? 0) ^ 1;
    const wraps = [{ keyArn: at.key.arn, ciphertextBlob }];
    expect(await codeOfRejection(at.release({ wraps }))).toBe('KMS_DENIED');
  });

  it.each(['DisabledException', 'KMSInvalidStateException', 'NotFoundException'])('with %s', async (name) => {
    inject({ kind: 'error', name });
    expect(await codeOfRejection(at.release())).toBe('KMS_DENIED');
  });

  it('at once: a denial is not asked for again', async () => {
    inject({ kind: 'alter-register', index: 0 }, { times: 5 });
    const before = at.decrypts();
    await codeOfRejection(at.release());
    expect(at.decrypts()).toBe(before + 1);
  });
});

describe('a data key', () => {
  it.each([1, 16, 31, 33, 64])('of %i bytes is refused', async (length) => {
    const ciphertextBlob = await at.wrap(new Uint8Array(length).fill(7));
    const wraps = [{ keyArn: at.key.arn, ciphertextBlob }];
    expect(await codeOfRejection(at.release({ wraps }))).toBe('KMS_ANSWER_REFUSED');
  });
});

describe('when KMS or the way to it fails', () => {
  it('throttling is waited out', async () => {
    inject({ kind: 'error', name: 'ThrottlingException', message: 'Rate exceeded' }, { times: 2 });
    const before = at.decrypts();
    expect(Buffer.from(await at.release()).equals(at.dataKey)).toBe(true);
    expect(at.decrypts()).toBe(before + 3);
  });

  it('throttling that does not end is an error, after three attempts', async () => {
    inject({ kind: 'error', name: 'ThrottlingException' }, { times: 10 });
    const before = at.decrypts();
    expect(await codeOfRejection(at.release())).toBe('KMS_UNAVAILABLE');
    expect(at.decrypts()).toBe(before + 3);
  });

  it.each([
    ['KMSInternalException', 500],
    ['ServiceUnavailableException', 503],
    ['DependencyTimeoutException', 503],
  ])('%s with status %i is waited out, and is an error if it stays', async (name, status) => {
    inject({ kind: 'error', name, status });
    expect(Buffer.from(await at.release()).equals(at.dataKey)).toBe(true);
    inject({ kind: 'error', name, status }, { times: 3 });
    expect(await codeOfRejection(at.release())).toBe('KMS_UNAVAILABLE');
  });

  it('a closed connection is tried again', async () => {
    inject({ kind: 'reset' });
    expect(Buffer.from(await at.release()).equals(at.dataKey)).toBe(true);
  });

  it.each([0, 1, 200])('an answer that is cut after %i bytes gives no key', async (bytes) => {
    inject({ kind: 'truncate', bytes }, { times: 3 });
    expect(await codeOfRejection(at.release())).toBe('KMS_UNAVAILABLE');
  });

  it('an answer that never comes ends at the deadline of each of three attempts', async () => {
    inject({ kind: 'hang' }, { times: 3 });
    const before = at.decrypts();
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const refused = codeOfRejection(at.release());
      for (let attempt = 1; attempt <= 3; attempt++) {
        await expect.poll(() => at.decrypts(), { timeout: 10_000 }).toBe(before + attempt);
        await vi.advanceTimersByTimeAsync(20_001);
        await vi.advanceTimersByTimeAsync(2_000);
      }
      expect(await refused).toBe('KMS_UNAVAILABLE');
    } finally {
      vi.useRealTimers();
    }
  });

  it('credentials that KMS calls expired are an error that names KMS, not a hang', async () => {
    inject({ kind: 'expired-credentials' }, { times: 3 });
    expect(await codeOfRejection(at.release())).toBe('KMS_UNAVAILABLE');
  });

  it('credentials that the host hands over expired are used as they are: KMS is the judge', async () => {
    const tunnels = tunnelsTo(at.stand.kms.port, new Date(Date.now() - 1_000));
    expect(Buffer.from(await releaseDataKey(at.request(tunnels))).equals(at.dataKey)).toBe(true);
  });

  it('a parent that has no credentials, or reaches nobody, is an error of its own', async () => {
    const tunnels = tunnelsTo(at.stand.kms.port);
    const none = { ...tunnels, fetchCredentials: () => Promise.reject(new Error('none')) };
    expect(await codeOfRejection(releaseDataKey(at.request(none)))).toBe('KMS_UNAVAILABLE');
    const nobody = { ...tunnels, connect: () => Promise.reject(new Error('refused')) };
    expect(await codeOfRejection(releaseDataKey(at.request(nobody)))).toBe('KMS_UNAVAILABLE');
  });
});

describe('an answer for somebody else', () => {
  it('is refused when it was recorded earlier', async () => {
    await at.release();
    inject({ kind: 'replay' });
    expect(await codeOfRejection(at.release())).toBe('CMS_RECIPIENT_REFUSED');
  });

  it('is refused when one bit of it was changed', async () => {
    inject({ kind: 'corrupt', member: 'CiphertextForRecipient' });
    expect(await codeOfRejection(at.release())).toBe('CMS_DECRYPTION_FAILED');
  });
});
