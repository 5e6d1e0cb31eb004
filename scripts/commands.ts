import type { Command } from './command.ts';

/** Every command, loaded only when it is asked for: starting `strongroom --help` must stay instant. */
export const COMMANDS: Readonly<Record<string, () => Promise<{ readonly command: Command }>>> = {
  demo: () => import('./commands/demo.ts'),
  simulate: () => import('./commands/simulate.ts'),
  keygen: () => import('./commands/keygen.ts'),
  seal: () => import('./commands/seal.ts'),
  sign: () => import('./commands/sign.ts'),
  rewrap: () => import('./commands/rewrap.ts'),
  reseal: () => import('./commands/reseal.ts'),
  rotate: () => import('./commands/rotate.ts'),
  inspect: () => import('./commands/inspect.ts'),
  verify: () => import('./commands/verify.ts'),
  open: () => import('./commands/open.ts'),
  exec: () => import('./commands/exec.ts'),
  convert: () => import('./commands/convert.ts'),
  're-encrypt': () => import('./commands/re-encrypt.ts'),
  run: () => import('./commands/run.ts'),
  doctor: () => import('./commands/doctor.ts'),
  ask: () => import('./commands/ask.ts'),
  'image build': () => import('./commands/image-build.ts'),
  'image root': () => import('./commands/image-root.ts'),
  'image measure': () => import('./commands/image-measure.ts'),
  'image list': () => import('./commands/image-list.ts'),
  'policy generate': () => import('./commands/policy-generate.ts'),
  'attestation verify': () => import('./commands/attestation-verify.ts'),
};
