/**
 * As it stands if it is plain; otherwise in quotes with escapes, so that no text in a file moves a terminal's
 * cursor, hides what follows, or reads right to left.
 */
export function shown(text: string): string {
  return /^[\p{L}\p{N}\p{P}\p{S} ]*$/u.test(text) && !text.startsWith('"') ? text : quoted(text);
}

function quoted(text: string): string {
  return JSON.stringify(text).replace(/[^\x20-\x7e]/gu, (character) =>
    [...Array(character.length).keys()]
      .map((at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`)
      .join(''),
  );
}

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
