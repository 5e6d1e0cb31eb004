/**
 * Policy variables: `${aws:PrincipalTag/team}`, with an optional default `${aws:PrincipalTag/team, 'none'}`, and the
 * three literals `${*}`, `${?}`, `${$}` (IAM user guide, "Policy elements: variables and tags"). They exist only under
 * Version 2012-10-17; under the older version the same characters are plain text.
 */
import { asciiLower, type PatternPart } from './glob.ts';
import type { PolicyVersion } from './model.ts';

/** Condition keys of one request, names in lower case. */
export type RequestContext = ReadonlyMap<string, readonly string[]>;

const VARIABLE = /\$\{([^{}]*)\}/g;
const WITH_DEFAULT = /^([^,]*?)\s*,\s*'([^']*)'$/;

/** The value taken apart, or undefined when a variable has no value and no default: then nothing equals it. */
export function expandVariables(
  value: string,
  version: PolicyVersion,
  context: RequestContext,
): PatternPart[] | undefined {
  if (version === '2008-10-17' || !value.includes('${')) return [{ text: value, literal: false }];
  const parts: PatternPart[] = [];
  let end = 0;
  for (const match of value.matchAll(VARIABLE)) {
    parts.push({ text: value.slice(end, match.index), literal: false });
    const resolved = resolve((match[1] ?? '').trim(), context);
    if (resolved === undefined) return undefined;
    parts.push({ text: resolved, literal: true });
    end = match.index + match[0].length;
  }
  parts.push({ text: value.slice(end), literal: false });
  return parts;
}

function resolve(name: string, context: RequestContext): string | undefined {
  if (name === '*' || name === '?' || name === '$') return name;
  const withDefault = WITH_DEFAULT.exec(name);
  const key = asciiLower(withDefault?.[1] ?? name);
  const values = context.get(key) ?? [];
  // A key with several values cannot stand in for one.
  return values.length === 1 ? values[0] : values.length === 0 ? withDefault?.[2] : undefined;
}
