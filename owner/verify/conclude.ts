/** What follows from the checks, in words that claim no more than was checked. */
import type { StrongroomError } from '../../shared/errors.ts';
import { OwnerError } from '../errors.ts';
import type { CheckResult, ModelTicks } from './checks.ts';
import type { VerifySealed } from './verify-model.ts';

interface Conclusion {
  readonly checks: readonly CheckResult[];
  readonly error: StrongroomError | undefined;
  readonly proven: readonly string[];
  readonly notProven: readonly string[];
}

export function conclude(
  ticks: ModelTicks,
  request: Pick<VerifySealed, 'key' | 'signer' | 'oms'>,
  segments: { readonly segmentCount: number; readonly looked: number } = { segmentCount: 0, looked: 0 },
): Conclusion {
  const checks = ticks.results();
  if (ticks.error !== undefined) return { checks, error: ticks.error, proven: [], notProven: [] };
  const vouched = vouchers(ticks, request);
  return {
    checks,
    error:
      vouched.length > 0
        ? undefined
        : new OwnerError('OWNER_NOBODY_VOUCHES', 'Nothing that was given proves who made this model.'),
    proven: [...vouched, ...provenOf(ticks, segments)],
    notProven: notProvenOf(ticks, request, vouched.length > 0, segments),
  };
}

/** A wrap can be made by anybody for a public recovery key or a KMS key that they may use, so it vouches for nothing. */
function vouchers(ticks: ModelTicks, { key }: Pick<VerifySealed, 'key'>): string[] {
  const vouched: string[] = [];
  if (ticks.has('content-id')) vouched.push('It is the model whose content id you gave.');
  if (ticks.has('signature'))
    vouched.push('The signer vouched for this content id, name, version and files.');
  if (ticks.has('oms') && ticks.has('oms-files')) {
    vouched.push('The signer of the bundle vouched for this head and payload.');
  }
  if (key?.kind === 'kept' && ticks.has('mac')) {
    vouched.push('Whoever sealed it had the data key that you keep.');
  }
  return vouched;
}

function provenOf(
  ticks: ModelTicks,
  { segmentCount, looked }: { readonly segmentCount: number; readonly looked: number },
): string[] {
  const proven: string[] = [];
  const share =
    looked === segmentCount ? 'The payload is, byte for byte,' : `${looked} of ${segmentCount} segments are`;
  if (ticks.has('digests')) proven.push(`${share} the ciphertext that this content id names.`);
  if (ticks.has('mac')) proven.push('Your key is the one that it was sealed with.');
  if (ticks.has('tags')) {
    proven.push(
      looked === segmentCount
        ? 'Every chunk opens under it, strictly; nothing was released.'
        : 'Every chunk of those segments opens under it, strictly; nothing was released.',
    );
  }
  if (ticks.has('files')) proven.push('Every file has the size and SHA-256 that the manifest states.');
  return proven;
}

function notProvenOf(
  ticks: ModelTicks,
  { key, oms }: Pick<VerifySealed, 'key' | 'oms'>,
  vouched: boolean,
  { segmentCount, looked }: { readonly segmentCount: number; readonly looked: number },
): string[] {
  const open: string[] = [];
  if (!vouched && key === undefined) {
    open.push('Who made it: anybody can make a head, a payload and a manifest that fit together.');
  }
  if (!vouched && key !== undefined) {
    open.push(
      'Who made it: anybody can wrap a data key of their own for your recovery key, or under a KMS key they may use.',
    );
  }
  if (looked < segmentCount) {
    const missed = (100 * (1 - looked / segmentCount)).toFixed(1);
    open.push(
      `The other ${segmentCount - looked} segments: one altered segment is missed with a chance of ${missed}%.`,
    );
  }
  if (key === undefined) open.push('That it opens, and what its files hold: no key was given.');
  if (ticks.has('key-file') && key?.kind !== 'kms') {
    open.push('That the wraps in key.json open: only KMS can say, and nobody signs them.');
  }
  if (oms !== undefined) open.push('Who signed manifest.json: --oms looks at the bundle’s signature alone.');
  return open;
}
