import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { amazonRoots } from '../../../enclave/kms/amazon-roots.ts';
import { releaseDataKey } from '../../../enclave/kms/release.ts';
import { type ImpostorOptions, startImpostor } from './impostor.ts';
import { codeOfRejection, type ReleaseStand, startReleaseStand, tunnelsTo } from './support.ts';

let at: ReleaseStand;

beforeAll(async () => {
  at = await startReleaseStand();
});
afterAll(() => at.close());

/** Asks a server of the test's through a parent that leads there; trusts its CA unless told otherwise. */
async function ask(options: ImpostorOptions, roots?: readonly string[]) {
  await using impostor = await startImpostor(options);
  const host = tunnelsTo(impostor.port);
  const connection = { host, roots: roots ?? [impostor.tls.caCertificatePem] };
  const code = await codeOfRejection(releaseDataKey(at.request(host, { connection })));
  return { code, requests: impostor.requests(), dialled: new Set(host.dialled) };
}

const answer = (members: object): ImpostorOptions => ({
  body: JSON.stringify({ KeyId: at.key.arn, ...members }),
});
const sealed = Buffer.from('sealed to somebody').toString('base64');
/** Key ids are random: the last digit must be another one, whichever it is. */
const anotherKeyArn = (): string => at.key.arn.replace(/.$/, (digit) => (digit === '0' ? '1' : '0'));
const plaintext = Buffer.alloc(32, 7).toString('base64');

describe('TLS to KMS, with a parent that leads elsewhere', () => {
  it('is refused under a CA that is not among the roots, before a request is sent', async () => {
    const roots = [at.stand.kms.caCertificatePem];
    expect(await ask(answer({}), roots)).toMatchObject({ code: 'KMS_UNAVAILABLE', requests: 0 });
  });

  it("is refused by Amazon's roots when the simulation's KMS answers", async () => {
    const before = at.decrypts();
    const tunnels = tunnelsTo(at.stand.kms.port);
    const connection = { host: tunnels, roots: amazonRoots() };
    expect(await codeOfRejection(releaseDataKey(at.request(tunnels, { connection })))).toBe(
      'KMS_UNAVAILABLE',
    );
    expect(at.decrypts()).toBe(before);
  });

  it('is refused for the name of another region, though the CA is right', async () => {
    const elsewhere = { region: 'us-east-1', ...answer({}) };
    expect(await ask(elsewhere)).toMatchObject({ code: 'KMS_UNAVAILABLE', requests: 0 });
  });

  it('is refused below TLS 1.3', async () => {
    const old = { tls: { maxVersion: 'TLSv1.2' as const }, ...answer({}) };
    expect(await ask(old)).toMatchObject({ code: 'KMS_UNAVAILABLE', requests: 0 });
  });

  it('reaches a server that is named right, under the right CA, with TLS 1.3: the refusals above have one cause', async () => {
    expect(await ask(answer({}))).toMatchObject({ code: 'KMS_ANSWER_REFUSED', requests: 1 });
  });
});

describe('an answer of KMS', () => {
  it.each([
    ['a plaintext alone', () => ({ Plaintext: plaintext })],
    ['a plaintext beside the sealed key', () => ({ Plaintext: plaintext, CiphertextForRecipient: sealed })],
    ['neither', () => ({})],
    ['another KeyId', () => ({ KeyId: anotherKeyArn(), CiphertextForRecipient: sealed })],
    ['no KeyId', () => ({ KeyId: undefined, CiphertextForRecipient: sealed })],
    ['the key id without its ARN', () => ({ KeyId: at.key.keyId, CiphertextForRecipient: sealed })],
  ])('with %s is refused', async (_what, members) => {
    expect((await ask(answer(members()))).code).toBe('KMS_ANSWER_REFUSED');
  });

  it('with something that is no CMS is refused', async () => {
    expect((await ask(answer({ CiphertextForRecipient: sealed }))).code).toMatch(/^(CMS|ASN1|BER|DER)_/);
  });

  it.each([
    ['no JSON', { body: 'hello' }],
    ['JSON of another shape', { body: '[1,2]' }],
    [
      'another protocol',
      { body: Buffer.from([0xd9, 0xd9, 0xf7, 0xa0]), headers: { 'smithy-protocol': 'rpc-v2-cbor' } },
    ],
    ['an error without a name', { status: 400, body: '{}' }],
    [
      'a redirect to another host',
      { status: 307, headers: { location: 'https://169.254.169.254/' }, body: '' },
    ],
  ])('that is %s gives no key, and nobody else is asked', async (_what, options) => {
    const { code, dialled } = await ask(options);
    expect(code).toMatch(/^KMS_(UNAVAILABLE|ANSWER_REFUSED)$/);
    expect([...dialled]).toEqual(['kms.eu-central-1.amazonaws.com:443']);
  });

  it('that stops in the middle, on a connection that stays open, ends at its deadline', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const asked = ask({ body: '{', stops: true });
      let ended = false;
      void asked.finally(() => {
        ended = true;
      });
      const passes = async (): Promise<boolean> => {
        await vi.advanceTimersByTimeAsync(1_000);
        return ended;
      };
      await expect.poll(passes, { timeout: 15_000 }).toBe(true);
      expect((await asked).code).toBe('KMS_UNAVAILABLE');
    } finally {
      vi.useRealTimers();
    }
  });
});
