/** The simulated KMS's explanations, short enough for one line on a terminal. */
import type { KmsDenial } from '../../simulator/kms/denials.ts';

/** As the policy engine puts a condition that decided. */
const REGISTER =
  /statement "(?<statement>[^"]*)" \(line (?<line>\d+)\).*?kms:RecipientAttestation:(?<register>\w+): expected \w+ (?<expected>"[^"]*"(?: or "[^"]*")*), found (?:nothing|"(?<found>[^"]*)")/;

/** Which register differed, if that is what decided; else the first reason. */
export function whyDenied({ explanation }: Pick<KmsDenial, 'explanation'>): string {
  const registers = explanation
    .map((line) => REGISTER.exec(line)?.groups)
    .filter((groups) => groups !== undefined);
  const missing = registers.filter(({ found }) => found === undefined);
  if (missing.length > 0) {
    const names = missing.map(({ register }) => register).join(', ');
    return `there is no attestation document, so no ${names} to compare with the key policy`;
  }
  const [different] = registers;
  if (different === undefined) return shortened(explanation[0] ?? 'it gives no reason');
  const { statement, line, register, expected = '', found = '' } = different;
  return shortened(
    `${register} is "${found}"; "${statement}" (line ${line} of the key policy) wants ${expected}`,
  );
}

/** Hashes to 12 digits, ids of keys to 8, ARNs of roles to their names; what a reader of one line knows is left out. */
export function shortened(text: string): string {
  return text
    .replace(/^KMS refused \(\w+\): /, '')
    .replace(/\barn:aws:[a-z]+:[a-z0-9-]*:\d{12}:/g, '')
    .replace(/\bassumed-role\/([^/\s]+)\/\S+/g, '$1')
    .replace(/ on resource: \S+/, '')
    .replace(/\b([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/g, '$1…')
    .replace(/"?\b([0-9a-f]{12})[0-9a-f]{20,}\b"?/g, '$1…');
}
