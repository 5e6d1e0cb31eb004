/**
 * What Strongroom notes in the label of a wrap (docs/sealed-model.md section 8.2): when it was made, and under which
 * material of the KMS key. KMS tells neither of a ciphertext that it is merely shown. Nobody signs a label, so it is a
 * claim: enough to find what is due, never to decide whether a wrap is right.
 */

export interface WrapNote {
  readonly at: Date;
  /** The first 16 digits of the KMS key material's id. */
  readonly material?: string;
}

const LABEL_MAX_CHARACTERS = 128;
const MATERIAL_DIGITS = 16;
const NOTE = /(?:^|; )wrapped (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)(?:, material ([0-9a-f]{16}))?$/;

export function readWrapNote(label: string | undefined): WrapNote | undefined {
  const [, time, material] = NOTE.exec(label ?? '') ?? [];
  const at = new Date(time ?? Number.NaN);
  if (Number.isNaN(at.getTime())) return undefined;
  return { at, ...(material === undefined ? {} : { material }) };
}

/** The label with this note in the place of an older one. The owner's own words stay; where both do not fit, alone. */
export function noteWrap(label: string | undefined, at: Date, materialId: string | undefined): string {
  const material = materialId === undefined ? '' : `, material ${shortMaterial(materialId)}`;
  const note = `wrapped ${at.toISOString().slice(0, 19)}Z${material}`;
  const own = (label ?? '').replace(NOTE, '');
  if (own === '') return note;
  const both = `${own}; ${note}`;
  return both.length <= LABEL_MAX_CHARACTERS ? both : own;
}

export function shortMaterial(materialId: string): string {
  return materialId.slice(0, MATERIAL_DIGITS);
}
