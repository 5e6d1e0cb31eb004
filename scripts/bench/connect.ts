/**
 * How long a caller waits before its first byte may leave: TCP, TLS handshake, evidence, every check. The
 * enclave's side runs in this process over the software NSM, so its work is in the figure too.
 */
import { connect } from '../../client/index.ts';
import { startEvidenceEndpoint } from '../../simulator/evidence-endpoint.ts';

const BAR_MS = 20;
const ROUNDS = 200;
const WARM_UP_ROUNDS = 20;
const MODEL = { name: 'iris', version: 1, manifestSha256: '11'.repeat(32), contentId: '22'.repeat(32) };

export const bench = {
  name: 'connect',
  /** Resolves to the exit code: 0 if the median is within the bar. */
  async run(_args: readonly string[]): Promise<number> {
    const endpoint = await startEvidenceEndpoint([MODEL]);
    try {
      const samplesMs: number[] = [];
      for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
        const startedMs = performance.now();
        const enclave = await connect(endpoint.url, endpoint.expectations);
        if (round >= 0) samplesMs.push(performance.now() - startedMs);
        await enclave.close();
      }
      samplesMs.sort((a, b) => a - b);
      const at = (share: number) => samplesMs[Math.floor(share * (ROUNDS - 1))] as number;
      const within = at(0.5) <= BAR_MS;
      process.stdout.write(
        `connect + handshake + evidence, ${ROUNDS} rounds: median ${at(0.5).toFixed(1)} ms, ` +
          `p90 ${at(0.9).toFixed(1)} ms, worst ${at(1).toFixed(1)} ms; bar ${BAR_MS} ms at the median: ${within ? 'met' : 'MISSED'}\n`,
      );
      return within ? 0 : 1;
    } finally {
      endpoint.close();
    }
  },
};
