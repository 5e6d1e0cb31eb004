/**
 * What is checked of a model, in the order in which it is shown, with the section that states the rule: of
 * docs/sealed-model.md, or of docs/legacy.md for the last group. A check that fails does not keep the others from
 * being made, as far as they can be: whoever looks at a damaged model wants to know all of it.
 */
import { type Tick, Ticks } from '../../shared/ticks.ts';

const SEALED_CHECKS = [
  { id: 'head', section: '2', step: 'well formed', what: 'head follows the format' },
  { id: 'payload-size', section: '2.2', step: 'well formed', what: 'payload is as long as the head says' },
  { id: 'manifest', section: '8.3', step: 'well formed', what: 'manifest follows the format' },
  {
    id: 'same-model',
    section: '8.3',
    step: 'well formed',
    what: 'manifest states this content id, name, version and files',
  },
  {
    id: 'key-file',
    section: '8.2',
    step: 'well formed',
    what: 'key.json follows the format, for this model',
  },
  { id: 'content-id', section: '1.2', step: 'vouched for', what: 'content id is the one that was given' },
  { id: 'signature', section: '8.3', step: 'vouched for', what: 'manifest is signed by the given key' },
  { id: 'oms', section: '12', step: 'vouched for', what: 'Model Signing bundle is signed by the given key' },
  {
    id: 'oms-files',
    section: '12',
    step: 'vouched for',
    what: 'Model Signing bundle states these files, and no other is there',
  },
  { id: 'key', section: '8', step: 'opened by the key', what: 'the data key can be had' },
  {
    id: 'commitment',
    section: '6.2',
    step: 'opened by the key',
    what: 'the data key is the one that the head commits to',
  },
  { id: 'mac', section: '6.3', step: 'opened by the key', what: 'head is as it was sealed' },
  { id: 'digests', section: '7.2', step: 'unaltered', what: 'every segment has the digest in the head' },
  { id: 'tags', section: '7.1', step: 'unaltered', what: 'every chunk is authentic under the key' },
  { id: 'gaps', section: '3.5', step: 'unaltered', what: 'zeros between the files' },
  { id: 'files', section: '8.3', step: 'unaltered', what: 'every file has the SHA-256 in the manifest' },
] as const;

const LEGACY_CHECKS = [
  { id: 'layout', section: '2', step: 'well formed', what: 'file follows its layout' },
  { id: 'tag', section: '5.1', step: 'unaltered', what: 'the message is authentic under the key' },
  { id: 'plaintext', section: '5.1', step: 'unaltered', what: 'the plaintext has the SHA-256 in the file' },
] as const;

export const CHECKS = { sealed: SEALED_CHECKS, legacy: LEGACY_CHECKS } as const;

type Check = (typeof SEALED_CHECKS)[number] | (typeof LEGACY_CHECKS)[number];
export type CheckId = Check['id'];
export type CheckResult = Tick<Check>;
export type ModelTicks = Ticks<Check>;

/** Of all checks of the kind, those that are asked for. */
export function ticksOf(kind: keyof typeof CHECKS, asked: readonly CheckId[]): ModelTicks {
  const ticks = new Ticks<Check>(CHECKS[kind]);
  for (const { id } of CHECKS[kind]) if (!asked.includes(id)) ticks.notAsked(id, '');
  return ticks;
}
