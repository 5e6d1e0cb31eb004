import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { signDenyList } from '../../../shared/deny-list/sign.ts';
import { testCa } from '../../support/client-certificates.ts';
import { type TestHost, testHost } from './host.ts';

const ID = 'clients.deny-list';
const HOUR_MS = 3600 * 1000;
const signer = generateKeyPairSync('ed25519');
const other = generateKeyPairSync('ed25519');
const pem = (key: KeyObject) => key.export({ type: 'spki', format: 'pem' }) as string;
const { pem: ca } = testCa();

let host: TestHost;
beforeEach(async () => {
  host = await testHost();
});
afterEach(() => host[Symbol.asyncDispose]());

/** A list of a day, signed so many hours ago. */
function list(hoursAgo: number, key: KeyObject = signer.privateKey): Uint8Array {
  const issuedMs = host.world.now() - hoursAgo * HOUR_MS;
  const denied = [{ kind: 'spiffe', value: 'spiffe://models.example.org/app-1' }] as const;
  const times = { issuedAt: new Date(issuedMs), expiresAt: new Date(issuedMs + 24 * HOUR_MS) };
  return signDenyList({ sequence: 7, ...times, denied }, key);
}

/** `denyList` of the deployment, and the file that the configuration names. */
function given(denyList: unknown, bytes?: string | Uint8Array): void {
  const clients = { ca, allowed: [{ trustDomain: 'models.example.org' }], denyList };
  host.deployment = { ...host.deployment, clients };
  host.config = { ...host.config, denyList: 'deny-list.json' };
  if (bytes !== undefined) host.write('deny-list.json', bytes);
}
const SIGNED = { signer: pem(signer.publicKey) };

describe('strongroom doctor and the deny list', () => {
  it('has nothing to say where there is none', async () => {
    expect((await host.examine())[ID]).toBeUndefined();
  });

  it('finds one that holds, with its sequence and its end', async () => {
    given(SIGNED, list(1));
    expect((await host.examine())[ID]).toMatchObject({
      outcome: 'ok',
      found: expect.stringMatching(
        /deny-list\.json: list 7, until 2026-05-02T11:00:00\.000Z, denies 1, signed by the deployment’s signer$/,
      ),
    });
  });

  it.each<[string, 'warning' | 'problem', RegExp, () => void]>([
    [
      'one that ends soon',
      'warning',
      /7 hours left.*deny-list sign .*deny-list\.json/s,
      () => given(SIGNED, list(17)),
    ],
    [
      'one that is over',
      'problem',
      /ended at 2026-05-01T11:00.*deny-list sign/s,
      () => given(SIGNED, list(25)),
    ],
    ['one of tomorrow', 'problem', /still to come.*clock/s, () => given(SIGNED, list(-24))],
    [
      'one by another key',
      'problem',
      /expected signer.*the key whose public half the deployment names/s,
      () => given(SIGNED, list(1, other.privateKey)),
    ],
    ['something else', 'problem', /refused.*docs\/deny-list\.md/s, () => given(SIGNED, '{}')],
    ['no file', 'problem', /ENOENT.*Check the path/s, () => given(SIGNED)],
    [
      'none in the configuration, where the deployment needs one',
      'problem',
      /names no list.*"denyList" in the configuration/s,
      () => {
        given(SIGNED);
        delete host.config.denyList;
      },
    ],
    [
      'one that the deployment has no use for',
      'warning',
      /no use for it.*Take "denyList" out/s,
      () => given('none', list(1)),
    ],
    [
      'one whose signer nobody knows, as the deployment cannot be read',
      'warning',
      /list 7.*was not checked.*deployment first/s,
      () => {
        given(SIGNED, list(1));
        host.deployment = { ...host.deployment, more: 1 };
      },
    ],
  ])('finds %s', async (_what, outcome, says, spoil) => {
    spoil();
    const finding = (await host.examine())[ID];
    expect(finding).toMatchObject({ outcome });
    expect(`${finding?.found} ${finding?.action}`).toMatch(says);
  });
});
