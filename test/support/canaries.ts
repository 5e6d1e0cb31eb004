/**
 * Secrets that a test knows and looks for, in every form that software likes to give them, and one pass over
 * the bytes for all of them at once (Wu and Manber, "A fast algorithm for multi-pattern searching", 1994): a
 * plain search for each form would take minutes for the memory of three processes.
 */

export interface Canary {
  readonly name: string;
  readonly needles: readonly { readonly form: string; readonly bytes: Buffer }[];
}

export interface Hit {
  readonly canary: string;
  readonly form: string;
}

/** Below this, chance and the allocator's own bytes would be found too. */
export const NEEDLE_BYTES_MIN = 16;

/** Raw, reversed (OpenSSL's big numbers), hex in both cases, base64 and base64url at three alignments, UTF-16. */
export function canary(name: string, secret: Uint8Array): Canary {
  const bytes = Buffer.from(secret);
  if (bytes.length < NEEDLE_BYTES_MIN) throw new RangeError(`${name}: a canary of ${bytes.length} bytes`);
  const texts = [
    { form: 'hex', text: bytes.toString('hex') },
    { form: 'HEX', text: bytes.toString('hex').toUpperCase() },
    ...[0, 1, 2].flatMap((shift) => {
      const text = base64Inside(bytes, shift);
      const url = text.replaceAll('+', '-').replaceAll('/', '_');
      return [
        { form: `base64 at ${shift}`, text },
        ...(url === text ? [] : [{ form: `base64url at ${shift}`, text: url }]),
      ];
    }),
  ];
  return {
    name,
    needles: [
      { form: 'raw', bytes },
      { form: 'reversed', bytes: Buffer.from(bytes).reverse() },
      ...texts.flatMap(({ form, text }) => [
        { form, bytes: Buffer.from(text, 'latin1') },
        { form: `${form} in UTF-16`, bytes: Buffer.from(text, 'utf16le') },
      ]),
    ],
  };
}

/** A text: as bytes with all their forms, and in UTF-16 as it stands. */
export function textCanary(name: string, text: string): Canary {
  const { needles } = canary(name, Buffer.from(text, 'utf8'));
  return { name, needles: [...needles, { form: 'UTF-16', bytes: Buffer.from(text, 'utf16le') }] };
}

/**
 * A key, by its two halves: an allocator that takes a freed buffer back writes over its beginning, and what is
 * left of a key is a key that can be found.
 */
export function keyCanaries(name: string, key: Uint8Array): Canary[] {
  const half = key.length >> 1;
  return [canary(name, key.subarray(0, half)), canary(name, key.subarray(half))];
}

/** The groups of four characters that depend on `bytes` alone when `shift` foreign bytes stand before them. */
function base64Inside(bytes: Uint8Array, shift: number): string {
  const text = Buffer.concat([Buffer.alloc(shift), bytes]).toString('base64');
  return text.slice(shift === 0 ? 0 : 4, Math.floor((shift + bytes.length) / 3) * 4);
}

export class CanarySearch {
  readonly #needles: readonly { readonly hit: Hit; readonly bytes: Buffer }[];
  /** How far the window may move when it ends with these two bytes. */
  readonly #shifts = new Uint8Array(1 << 16).fill(NEEDLE_BYTES_MIN - 1);
  readonly #endingWith = new Map<number, number[]>();
  /** Pieces of a larger whole overlap by this, so that no needle is cut in two. */
  readonly overlapBytes: number;

  constructor(canaries: readonly Canary[]) {
    this.#needles = canaries.flatMap(({ name, needles }) =>
      needles.map(({ form, bytes }) => ({ hit: { canary: name, form }, bytes })),
    );
    this.overlapBytes = Math.max(...this.#needles.map(({ bytes }) => bytes.length)) - 1;
    const last = NEEDLE_BYTES_MIN - 2;
    for (const [index, { bytes }] of this.#needles.entries()) {
      for (let at = 0; at <= last; at++) {
        const pair = bytes.readUInt16LE(at);
        this.#shifts[pair] = Math.min(this.#shifts[pair] as number, last - at);
        if (at === last) this.#endingWith.set(pair, [...(this.#endingWith.get(pair) ?? []), index]);
      }
    }
  }

  /** What stands anywhere in `haystack`; each form once. */
  in(haystack: Buffer): Hit[] {
    const shifts = this.#shifts;
    const found = new Set<number>();
    for (let at = NEEDLE_BYTES_MIN - 2; at + 1 < haystack.length; ) {
      const pair = (haystack[at] as number) | ((haystack[at + 1] as number) << 8);
      const shift = shifts[pair] as number;
      if (shift === 0) {
        this.#compare(haystack, at - (NEEDLE_BYTES_MIN - 2), pair, found);
        at += 1;
      } else at += shift;
    }
    return [...found].map((index) => (this.#needles[index] as { hit: Hit }).hit);
  }

  #compare(haystack: Buffer, start: number, pair: number, found: Set<number>): void {
    for (const index of this.#endingWith.get(pair) ?? []) {
      const { bytes } = this.#needles[index] as { bytes: Buffer };
      const end = start + bytes.length;
      if (
        haystack[start] === bytes[0] &&
        end <= haystack.length &&
        bytes.compare(haystack, start, end) === 0
      ) {
        found.add(index);
      }
    }
  }
}
