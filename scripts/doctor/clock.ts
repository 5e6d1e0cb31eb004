import {
  type Check,
  type CheckGroup,
  type Known,
  ok,
  problem,
  type Result,
  skipped,
  undecided,
  warning,
} from './check.ts';

/** The Date of an answer is in whole seconds. */
const CLOSE_MS = 5_000;
/** The enclave takes its time from the hypervisor and refuses a clock that is further away. */
const FAR_MS = 60_000;
const ACTION =
  'Run chrony with the Amazon Time Sync Service (server 169.254.169.123), then chronyc tracking.';

export const clockGroup: CheckGroup = {
  title: 'Clock',
  checks: (_world, known): readonly Check[] => [
    {
      id: 'clock.offset',
      why: 'Credentials expire, and signed requests are refused, by the clock of AWS.',
      run: async () => checkOffset(known),
    },
  ],
};

function checkOffset({ clockOffsetMs, config }: Known): Result {
  if (config === undefined) return skipped('Give --config FILE: the time comes from KMS.');
  if (clockOffsetMs === undefined) return undecided('KMS did not tell the time.');
  const seconds = Math.abs(clockOffsetMs / 1_000).toFixed(1);
  const found = `${seconds} s ${clockOffsetMs < 0 ? 'behind' : 'ahead of'} KMS`;
  if (Math.abs(clockOffsetMs) <= CLOSE_MS) return ok(found);
  return Math.abs(clockOffsetMs) <= FAR_MS ? warning(`${found}.`, ACTION) : problem(`${found}.`, ACTION);
}
