/**
 * A certificate was stolen, with its key, and the client was denied. The thief has the parent's operator as a friend, who
 * delivers the deny lists: older ones, changed ones, none at all.
 */
import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { signDenyList } from '../../shared/deny-list/sign.ts';
import { hours } from '../support/client-certificates.ts';
import { DENIED, denyingEnclave, list, SERVED, SUSPENDED, spiffe } from '../support/denying-enclave.ts';
import { APP } from '../support/door.ts';

describe('a parent on the side of a denied client', () => {
  it('cannot bring back an older list, not even after the newer one has ended', async () => {
    let now = new Date();
    const at = await denyingEnclave(list(5, [spiffe(APP)]), () => now);
    await at.bring(list(4, [], [hours(-1), hours(24)]));
    expect(await at.first()).toEqual(DENIED);
    now = hours(2);
    await at.bring(list(4, [], [hours(-1), hours(24)]));
    expect(await at.first()).toEqual(SUSPENDED);
    expect(at.events.at(-1)).toEqual({ outcome: 'refused', code: 'DENY_LIST_REPLAYED' });
  });

  it('can hold a list back only until the last one ends', async () => {
    let now = new Date();
    const at = await denyingEnclave(list(1), () => now);
    await at.bring(undefined);
    expect(await at.first()).toEqual(SERVED);
    now = hours(2);
    expect(await at.first()).toEqual(SUSPENDED);
  });

  it('cannot change a list, nor sign one', async () => {
    const at = await denyingEnclave(list(1, [spiffe(APP)]));
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const fields = { sequence: 2, issuedAt: hours(-1), expiresAt: hours(1), denied: [] };
    for (const bytes of [
      signDenyList(fields, other.privateKey),
      Buffer.from('{}'),
      Buffer.alloc(512 * 1024, '['),
      list(2, [], [hours(1), hours(2)]),
    ]) {
      await at.bring(bytes);
      expect(await at.first()).toEqual(DENIED);
    }
    expect(at.events.map((event) => ('code' in event ? event.code : event.outcome))).toEqual([
      'taken',
      'DENY_LIST_UNSIGNED',
      'DENY_LIST_MALFORMED',
      'DENY_LIST_FROM_FUTURE',
    ]);
  });
});
