/**
 * What travels on the socket between a simulated enclave and its hypervisor, in both directions:
 *
 *     u32 length of the body, big-endian   u8 kind   body
 *
 * Kind 1 carries an NSM request one way and its response the other; kind 2 the name of a boot step one way
 * and, once the hypervisor lets the boot go on, an empty body the other.
 */

export const NSM_FRAME = 1;
export const STEP_FRAME = 2;

const HEAD_BYTES = 5;
/** Larger than any NSM message, so that it is the NSM who says what is too large. */
const BODY_MAX_BYTES = 1 << 16;

export interface Frame {
  readonly kind: number;
  readonly body: Uint8Array;
}

export function encodeFrame({ kind, body }: Frame): Uint8Array {
  const frame = new Uint8Array(HEAD_BYTES + body.length);
  new DataView(frame.buffer).setUint32(0, body.length);
  frame[4] = kind;
  frame.set(body, HEAD_BYTES);
  return frame;
}

/** Puts frames together from the pieces in which they arrive. */
export class FrameReader {
  #pending: Uint8Array = new Uint8Array(0);

  /** The frames that this piece completes. Throws RangeError for a body that no message has. */
  push(piece: Uint8Array): readonly Frame[] {
    this.#pending = Buffer.concat([this.#pending, piece]);
    const frames: Frame[] = [];
    for (;;) {
      const frame = this.#next();
      if (frame === undefined) return frames;
      frames.push(frame);
    }
  }

  #next(): Frame | undefined {
    const { buffer, byteOffset, length } = this.#pending;
    if (length < HEAD_BYTES) return undefined;
    const bodyBytes = new DataView(buffer, byteOffset).getUint32(0);
    if (bodyBytes > BODY_MAX_BYTES) {
      throw new RangeError(`A frame has a body of at most ${BODY_MAX_BYTES} bytes, found ${bodyBytes}.`);
    }
    if (length < HEAD_BYTES + bodyBytes) return undefined;
    const kind = this.#pending[4] as number;
    const body = this.#pending.slice(HEAD_BYTES, HEAD_BYTES + bodyBytes);
    this.#pending = this.#pending.subarray(HEAD_BYTES + bodyBytes);
    return { kind, body };
  }
}
