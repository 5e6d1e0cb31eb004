/**
 * What is checked of a bundle, in the order in which it is shown, with its section in docs/evidence-bundle.md. A check
 * that fails does not keep the others from being made, as far as they can be: whoever holds a release wants to know all.
 */
import type { Tick, Ticks } from '../../shared/ticks.ts';

export const CHECKS = [
  {
    id: 'digests',
    section: '3.1',
    step: 'whole',
    what: 'every member is as the index says, and no other is there',
  },
  { id: 'signature', section: '3.2', step: 'whole', what: 'the index is signed by the given key' },
  {
    id: 'image',
    section: '4.1',
    step: 'of one image',
    what: 'PCR0, PCR1 and PCR2 are measured, not those of debug mode',
  },
  { id: 'image-file', section: '4.2', step: 'of one image', what: 'the image file measures to the same' },
  {
    id: 'release',
    section: '4.3',
    step: 'of one image',
    what: 'the release manifest names this image, and was not withdrawn',
  },
  {
    id: 'deployment',
    section: '5.1',
    step: 'of one deployment',
    what: 'the deployment document is one that an enclave accepts',
  },
  {
    id: 'release-deployment',
    section: '5.2',
    step: 'of one deployment',
    what: 'the release manifest names this deployment',
  },
  {
    id: 'models',
    section: '5.3',
    step: 'of one deployment',
    what: 'each model manifest is the one that the deployment asks for',
  },
  {
    id: 'attestation',
    section: '6.1',
    step: 'attested',
    what: 'the attestation document is genuine at the given time',
  },
  { id: 'attested-image', section: '6.2', step: 'attested', what: "its PCR0, PCR1 and PCR2 are the image's" },
  { id: 'attested-deployment', section: '6.3', step: 'attested', what: "its PCR16 is the deployment's" },
  { id: 'attested-host', section: '6.4', step: 'attested', what: "its PCR3 is the host role's" },
  {
    id: 'review',
    section: '7.1',
    step: 'locked to it',
    what: 'reviewed again, the key policy gets the same verdict',
  },
  {
    id: 'verdict',
    section: '7.2',
    step: 'locked to it',
    what: 'the verdict is a yes: only the reviewed image gets the key',
  },
] as const;

type Check = (typeof CHECKS)[number];
export type CheckId = Check['id'];
export type CheckResult = Tick<Check>;
export type BundleTicks = Ticks<Check>;
