/**
 * Frames between supervisor and engine, over one stream socket (the engine's descriptor 3):
 *
 *     u32 header length | u32 body length (both big-endian) | header: JSON, UTF-8 | body: raw tensor bytes
 *
 * Either side bounds what the other announces before it allocates anything.
 */
import { readSync, writeSync } from 'node:fs';
import { EngineError } from './errors.ts';

export interface Frame {
  /** Only until the next frame comes. */
  readonly header: Uint8Array;
  /** Begins where its buffer lets typed arrays of any kind begin. */
  readonly body: Uint8Array;
}

const PREFIX_BYTES = 8;
/** Of the widest typed arrays' elements. */
const ALIGNMENT_BYTES = 8;
/** Names, shapes and datatypes of every tensor of one request fit many times over. */
export const MAX_HEADER_BYTES = 256 * 1024;
/** All tensors of one request or answer together. */
export const MAX_BODY_BYTES = 256 * 1024 * 1024;
/** Copying costs less than handing the kernel one piece more, and each piece wakes whoever reads. */
const ONE_PIECE_BYTES = 16 * 1024;

function readPrefix(bytes: Uint8Array, offset = 0): { headerLength: number; bodyLength: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset, PREFIX_BYTES);
  const headerLength = view.getUint32(0);
  const bodyLength = view.getUint32(4);
  if (headerLength > MAX_HEADER_BYTES || bodyLength > MAX_BODY_BYTES) {
    throw new EngineError(
      'ENGINE_PROTOCOL',
      `a frame announces ${headerLength} + ${bodyLength} bytes: at most ${MAX_HEADER_BYTES} + ${MAX_BODY_BYTES}`,
    );
  }
  return { headerLength, bodyLength };
}

const UTF8 = new TextEncoder();

/**
 * The pieces of a frame, to be written one after the other; a large body is not copied. Throws EngineError
 * ENGINE_REJECTED for what is larger than the other side takes.
 */
export function encodeFrame(header: object, body: readonly Uint8Array[]): Uint8Array[] {
  const headerBytes = UTF8.encode(JSON.stringify(header));
  const bodyLength = body.reduce((sum, part) => sum + part.length, 0);
  if (headerBytes.length > MAX_HEADER_BYTES || bodyLength > MAX_BODY_BYTES) {
    throw new EngineError(
      'ENGINE_REJECTED',
      `too large for the engine: ${headerBytes.length} + ${bodyLength} bytes`,
    );
  }
  const headLength = PREFIX_BYTES + headerBytes.length;
  const inOne = headLength + bodyLength <= ONE_PIECE_BYTES;
  const head = new Uint8Array(new ArrayBuffer(inOne ? headLength + bodyLength : headLength));
  const view = new DataView(head.buffer);
  view.setUint32(0, headerBytes.length);
  view.setUint32(4, bodyLength);
  head.set(headerBytes, PREFIX_BYTES);
  if (!inOne) return [head, ...body.filter((part) => part.length > 0)];
  let offset = headLength;
  for (const part of body) {
    head.set(part, offset);
    offset += part.length;
  }
  return [head];
}

/** Takes a stream in any pieces and gives whole frames. Throws EngineError ENGINE_PROTOCOL on an oversized one. */
export class FrameReader {
  readonly #onFrame: (frame: Frame) => void;
  #part: 'prefix' | 'header' | 'body' = 'prefix';
  #target = new Uint8Array(PREFIX_BYTES);
  #filled = 0;
  #header = new Uint8Array(0);
  #bodyLength = 0;

  constructor(onFrame: (frame: Frame) => void) {
    this.#onFrame = onFrame;
  }

  push(chunk: Uint8Array): void {
    let offset = 0;
    while (offset < chunk.length) {
      const end = this.#wholeFrame(chunk, offset);
      if (end !== undefined) {
        offset = end;
        continue;
      }
      const take = Math.min(this.#target.length - this.#filled, chunk.length - offset);
      this.#target.set(chunk.subarray(offset, offset + take), this.#filled);
      this.#filled += take;
      offset += take;
      while (this.#filled === this.#target.length) this.#advance();
    }
  }

  /** Most frames come in one piece: then its end, after it was given. */
  #wholeFrame(chunk: Uint8Array, offset: number): number | undefined {
    if (this.#part !== 'prefix' || this.#filled > 0 || chunk.length - offset < PREFIX_BYTES) return undefined;
    const { headerLength, bodyLength } = readPrefix(chunk, offset);
    const bodyOffset = offset + PREFIX_BYTES + headerLength;
    if (headerLength === 0 || chunk.length - bodyOffset < bodyLength) return undefined;
    const end = bodyOffset + bodyLength;
    this.#onFrame({
      header: chunk.subarray(offset + PREFIX_BYTES, bodyOffset),
      body: new Uint8Array(chunk.subarray(bodyOffset, end)),
    });
    return end;
  }

  #advance(): void {
    const done = this.#target;
    if (this.#part === 'prefix') {
      const { headerLength, bodyLength } = readPrefix(done);
      if (headerLength === 0) throw new EngineError('ENGINE_PROTOCOL', 'a frame without a header');
      this.#bodyLength = bodyLength;
      this.#begin('header', headerLength);
    } else if (this.#part === 'header') {
      this.#header = done;
      if (this.#bodyLength > 0) this.#begin('body', this.#bodyLength);
      else this.#finish(new Uint8Array(0));
    } else {
      this.#finish(done);
    }
  }

  #begin(part: 'prefix' | 'header' | 'body', length: number): void {
    this.#part = part;
    this.#target = new Uint8Array(new ArrayBuffer(length));
    this.#filled = 0;
  }

  #finish(body: Uint8Array): void {
    const header = this.#header;
    this.#begin('prefix', PREFIX_BYTES);
    this.#onFrame({ header, body });
  }
}

/** The engine's side. It does one thing at a time, so it reads and writes synchronously. */
export function readFrameSync(descriptor: number): Frame | undefined {
  const prefix = readWhole(descriptor, PREFIX_BYTES);
  if (prefix === undefined) return undefined;
  const { headerLength, bodyLength } = readPrefix(prefix);
  // Header and body in one read, behind as many bytes as align the body.
  const lead = -headerLength & (ALIGNMENT_BYTES - 1);
  const rest = readWhole(descriptor, headerLength + bodyLength, lead);
  return rest && { header: rest.subarray(0, headerLength), body: rest.subarray(headerLength) };
}

export function writeFrameSync(descriptor: number, header: object, body: readonly Uint8Array[]): void {
  for (const part of encodeFrame(header, body)) {
    for (let offset = 0; offset < part.length; ) offset += writeSync(descriptor, part, offset);
  }
}

/** `lead` bytes into its buffer. Undefined when the other side has closed: there is nobody left to answer. */
function readWhole(descriptor: number, length: number, lead = 0): Uint8Array | undefined {
  const target = new Uint8Array(new ArrayBuffer(lead + length), lead);
  for (let filled = 0; filled < length; ) {
    const count = readSync(descriptor, target, filled, length - filled, null);
    if (count === 0) return undefined;
    filled += count;
  }
  return target;
}
