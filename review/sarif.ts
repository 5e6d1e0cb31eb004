/**
 * SARIF 2.1.0 (OASIS), as far as findings of ours need it and code scanning of GitHub reads it: every rule with its
 * descriptions, results with a place, a level and a fingerprint, and what could not be judged as notifications.
 */
export interface SarifLog {
  readonly tool: { readonly name: string; readonly version: string };
  readonly rules: readonly SarifRule[];
  readonly results: readonly SarifResult[];
  /** What kept the tool from judging; any makes the run an unsuccessful one. */
  readonly notifications: readonly SarifNotification[];
}

export interface SarifRule {
  /** Stable: alerts are told apart by it. */
  readonly id: string;
  readonly title: string;
  readonly description: string;
  readonly help: string;
  readonly helpUri?: string;
  readonly level: SarifLevel;
  /** From 9.0 critical, from 7.0 high, from 4.0 medium, above 0.0 low (GitHub, "security-severity"). */
  readonly securitySeverity: string;
  readonly tags: readonly string[];
}

export type SarifLevel = 'error' | 'warning' | 'note' | 'none';

export interface SarifResult {
  readonly ruleId: string;
  readonly level: SarifLevel;
  readonly message: string;
  /** Relative to the repository's root, percent-encoded. */
  readonly uri: string;
  readonly region: SarifRegion;
  /** By name; of rule and content, so that a finding is the same one when lines have moved. */
  readonly fingerprints: Readonly<Record<string, string>>;
  /** Why nobody needs to act on it, if somebody said so. */
  readonly suppression?: string;
}

/** Lines and columns from 1, columns in UTF-16 units; the end column is the one behind the last character. */
export interface SarifRegion {
  readonly startLine: number;
  readonly startColumn?: number;
  readonly endLine?: number;
  readonly endColumn?: number;
}

export interface SarifNotification {
  readonly message: string;
  readonly ruleId?: string;
  readonly uri?: string;
}

/** As JSON.stringify takes it. Throws TypeError for a result without a rule. */
export function sarifLog({ tool, rules, results, notifications }: SarifLog): object {
  const place = new Map(rules.map(({ id }, index) => [id, index]));
  return {
    $schema: 'https://json.schemastore.org/sarif-2.1.0.json',
    version: '2.1.0',
    runs: [
      {
        tool: {
          driver: { name: tool.name, semanticVersion: tool.version, rules: rules.map(ruleOf) },
        },
        columnKind: 'utf16CodeUnits',
        invocations: [
          {
            executionSuccessful: notifications.length === 0,
            toolExecutionNotifications: notifications.map(notificationOf),
          },
        ],
        results: results.map((result) => {
          const ruleIndex = place.get(result.ruleId);
          if (ruleIndex === undefined) throw new TypeError(`no rule ${result.ruleId}`);
          return resultOf(result, ruleIndex);
        }),
      },
    ],
  };
}

function ruleOf({ id, title, description, help, helpUri, level, securitySeverity, tags }: SarifRule): object {
  return {
    id,
    name: id,
    shortDescription: { text: title },
    fullDescription: { text: description },
    help: { text: help },
    ...(helpUri !== undefined && { helpUri }),
    defaultConfiguration: { level },
    properties: { 'security-severity': securitySeverity, tags },
  };
}

function resultOf(result: SarifResult, ruleIndex: number): object {
  const { ruleId, level, message, uri, region, fingerprints, suppression } = result;
  return {
    ruleId,
    ruleIndex,
    level,
    message: { text: message },
    locations: [{ physicalLocation: { artifactLocation: { uri }, region } }],
    partialFingerprints: fingerprints,
    ...(suppression !== undefined && {
      suppressions: [{ kind: 'external', status: 'accepted', justification: suppression }],
    }),
  };
}

function notificationOf({ message, ruleId, uri }: SarifNotification): object {
  return {
    level: 'error',
    message: { text: message },
    ...(ruleId !== undefined && { associatedRule: { id: ruleId } }),
    ...(uri !== undefined && { locations: [{ physicalLocation: { artifactLocation: { uri } } }] }),
  };
}

/**
 * A path as a URI reference: relative to the root of the repository, or where it lies on this machine (`file:`). GitHub
 * shows only the former.
 */
export function sarifUri(path: string): string {
  const encoded = path.replaceAll('\\', '/').split('/').map(encodeURIComponent).join('/');
  if (path.startsWith('/')) return `file://${encoded}`;
  return encoded.replace(/^(\.\/)+/, '');
}
