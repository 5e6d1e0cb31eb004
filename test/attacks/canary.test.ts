/**
 * Who ever holds which secret (docs/threat-model.md section 6): the whole story, with the memory, open files,
 * environment and command line of every process, every file and every printed line searched at every step.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { BOOT_STEPS } from '../../shared/telemetry.ts';
import { MAY_LOOK_INTO_PROCESSES } from '../support/memory-scan.ts';
import { type Searched, searchTheStory } from './canary/story.ts';
import type { Found, Holder } from './canary/watch.ts';

const STORY_TIMEOUT_MS = 180_000;
const DERIVED_KEYS = ['extracted key', 'header key', 'payload key'];
const MOMENTS = [
  'randomness-seeded',
  'deployment-measured',
  'model-checked',
  'attesting',
  'data-key-released',
  'opening',
  'weights-opened',
  'data-key-wiped',
  'engine-loaded',
  'serving',
  'computing',
  'answered',
  'answer known',
  'closed',
];

describe.skipIf(!MAY_LOOK_INTO_PROCESSES)(
  `secrets in memory, files and output${MAY_LOOK_INTO_PROCESSES ? '' : ' (needs root, to look into processes)'}`,
  () => {
    let searched: Searched;
    beforeAll(async () => {
      searched = await searchTheStory();
    }, STORY_TIMEOUT_MS);

    const since = (first: string): readonly string[] => MOMENTS.slice(MOMENTS.indexOf(first));
    const found = (canaries: readonly string[], where: Partial<Found> = {}): string[] =>
      searched.found
        .filter(({ canary }) => canaries.includes(canary))
        .filter((one) => Object.entries(where).every(([name, value]) => one[name as keyof Found] === value))
        .map(
          ({ canary, form, moment, holder, place }) =>
            `${moment}: ${holder} has ${canary} (${form}), ${place}`,
        );
    const momentsOf = (canary: string, holder: Holder): ReadonlySet<string> =>
      new Set(
        searched.found
          .filter((one) => one.canary === canary && one.holder === holder)
          .map((one) => one.moment),
      );

    it('are looked for at every step of the boot, in the middle of opening and of computing, and after the end', () => {
      expect([...searched.moments.keys()]).toEqual(MOMENTS);
      expect(MOMENTS).toEqual(expect.arrayContaining([...BOOT_STEPS]));
      expect(searched.moments.get('opening')).toEqual(['parent', 'enclave']);
      expect(searched.moments.get('computing')).toEqual(['parent', 'enclave', 'engine']);
      expect(searched.answerStatus).toBe(200);
    });

    it('would be found: each is, in its place, while it is needed', () => {
      expect(momentsOf('RSA key for KMS', 'enclave')).toContain('attesting');
      expect(momentsOf('data key', 'enclave')).toContain('data-key-released');
      expect(momentsOf('data key', 'enclave')).toContain('opening');
      expect(momentsOf('payload key', 'enclave')).toContain('opening');
      expect(momentsOf('TLS key', 'enclave')).toContain('serving');
      expect(momentsOf('prompt', 'enclave')).toContain('computing');
      expect(momentsOf('prompt', 'engine')).toContain('computing');
      expect(momentsOf('weights', 'engine')).toContain('engine-loaded');
      expect(momentsOf('answer', 'enclave')).toContain('answer known');
      const opening = found(['weights'], { moment: 'opening', holder: 'enclave' }).join('\n');
      expect(opening).toMatch(/, memory /);
      expect(opening).toMatch(/, open file/);
    });

    it('the data key is in no process once it is wiped, nor half of it', () => {
      for (const moment of since('data-key-wiped')) expect(found(['data key'], { moment })).toEqual([]);
    });

    it('keys derived from the data key are in no process once the weights are open', () => {
      for (const moment of since('weights-opened')) expect(found(DERIVED_KEYS, { moment })).toEqual([]);
    });

    it('the RSA key that KMS sealed the data key to is gone with it', () => {
      for (const moment of since('data-key-wiped'))
        expect(found(['RSA key for KMS'], { moment })).toEqual([]);
    });

    it('the TLS key is never outside the enclave process, in the engine least of all', () => {
      expect(found(['TLS key'], { holder: 'engine' })).toEqual([]);
      expect(found(['TLS key'], { holder: 'parent' })).toEqual([]);
    });

    it('the engine never holds any key', () => {
      const keys = ['data key', ...DERIVED_KEYS, 'RSA key for KMS', 'TLS key'];
      expect(found(keys, { holder: 'engine' })).toEqual([]);
    });

    it.each(['parent', 'files', 'consoles'] as const)('none is ever in: %s', (holder) => {
      const secrets = new Set(searched.found.map(({ canary }) => canary));
      expect(secrets.delete('no secret')).toBe(true);
      expect(found([...secrets], { holder })).toEqual([]);
      expect(found(['no secret'], { holder })).not.toEqual([]);
    });

    it('no process and no folder is left when it ends', () => {
      expect(searched.leftBehind).toEqual([]);
    });
  },
);
