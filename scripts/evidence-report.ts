import type { EnclaveEvidence } from '../client/index.ts';

/** One line for a terminal. */
export function verifiedLine({ trust, pcrs, moduleId, models }: EnclaveEvidence): string {
  const image = pcrs[0]?.slice(0, 16);
  const deployment = pcrs[16]?.slice(0, 16);
  const loaded = models.map(({ name, version }) => `${name} ${version}`).join(', ');
  return `verified: ${moduleId} (trust: ${trust}), image ${image}..., deployment ${deployment}..., models ${loaded}`;
}

/** What was verified, for JSON. */
export function evidenceReport(evidence: EnclaveEvidence): Record<string, unknown> {
  const { document, timestamp, ...verified } = evidence;
  return {
    ...verified,
    timestamp: timestamp.toISOString(),
    document: Buffer.from(document).toString('base64'),
  };
}
