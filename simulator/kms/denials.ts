/** What the simulated KMS wrote down about its refusals (audit.ts); AWS tells nobody why it refused. */
import { existsSync, readFileSync } from 'node:fs';

export interface KmsDenial {
  /** For example `Decrypt`. */
  readonly operation: string;
  /** The caller's ARN; undefined if it could not prove to be anybody. */
  readonly caller: string | undefined;
  /** CloudTrail's error code, for example `AccessDenied`. */
  readonly errorCode: string;
  readonly explanation: readonly string[];
}

/** All refusals of an audit log, oldest first. A log that does not exist yet has none. */
export function readDenials(auditLog: string): readonly KmsDenial[] {
  if (!existsSync(auditLog)) return [];
  return readFileSync(auditLog, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Record)
    .filter(({ strongroom }) => strongroom.outcome === 'refused')
    .map(({ eventName, userIdentity, errorCode = 'unknown', strongroom }) => ({
      operation: eventName,
      caller: userIdentity.arn,
      errorCode,
      explanation: strongroom.explanation,
    }));
}

interface Record {
  readonly eventName: string;
  readonly errorCode?: string;
  readonly userIdentity: { readonly arn?: string };
  readonly strongroom: { readonly outcome: string; readonly explanation: readonly string[] };
}
