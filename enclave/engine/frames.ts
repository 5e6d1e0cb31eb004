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
  readonly header: Uint8Array;
  readonly body: Uint8Array;
}

const PREFIX_BYTES = 8;
/** Names, shapes and datatypes of every tensor of one request fit many times over. */
export const MAX_HEADER_BYTES = 256 * 1024;
/** All tensors of one request or answer together. */
export const MAX_BODY_BYTES = 256 * 1024 * 1024;
/** Copying costs less than handing the kernel one piece more. */
export const SMALL_FRAME_BYTES = 16 * 1024;

function encodePrefix(header: Uint8Array, bodySizeBytes: number): Uint8Array {
  if (header.length > MAX_HEADER_BYTES || bodySizeBytes > MAX_BODY_BYTES) {
    throw new EngineError(
      'ENGINE_REJECTED',
      `too large for the engine: ${header.length} + ${bodySizeBytes} bytes`,
    );
  }
  const prefix = new Uint8Array(PREFIX_BYTES);
  const view = new DataView(prefix.buffer);
  view.setUint32(0, header.length);
  view.setUint32(4, bodySizeBytes);
  return prefix;
}

function readPrefix(prefix: Uint8Array): { headerLength: number; bodyLength: number } {
  const view = new DataView(prefix.buffer, prefix.byteOffset, PREFIX_BYTES);
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

/** The pieces of a frame, to be written one after the other; the body is not copied. */
export function encodeFrame(header: object, body: readonly Uint8Array[]): Uint8Array[] {
  const headerBytes = new TextEncoder().encode(JSON.stringify(header));
  const bodyLength = body.reduce((sum, part) => sum + part.length, 0);
  return [encodePrefix(headerBytes, bodyLength), headerBytes, ...body.filter((part) => part.length > 0)];
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
      const take = Math.min(this.#target.length - this.#filled, chunk.length - offset);
      this.#target.set(chunk.subarray(offset, offset + take), this.#filled);
      this.#filled += take;
      offset += take;
      while (this.#filled === this.#target.length) this.#advance();
    }
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
  const header = readWhole(descriptor, headerLength);
  const body = readWhole(descriptor, bodyLength);
  return header === undefined || body === undefined ? undefined : { header, body };
}

export function writeFrameSync(descriptor: number, header: object, body: readonly Uint8Array[]): void {
  const parts = encodeFrame(header, body);
  const sizeBytes = parts.reduce((sum, part) => sum + part.length, 0);
  // One call where it can be: each wakes whoever reads.
  for (const part of sizeBytes <= SMALL_FRAME_BYTES ? [Buffer.concat(parts)] : parts) {
    for (let offset = 0; offset < part.length; ) offset += writeSync(descriptor, part, offset);
  }
}

/** Undefined when the other side has closed: there is nobody left to answer. */
function readWhole(descriptor: number, length: number): Uint8Array | undefined {
  const target = new Uint8Array(new ArrayBuffer(length));
  for (let filled = 0; filled < length; ) {
    const count = readSync(descriptor, target, filled, length - filled, null);
    if (count === 0) return undefined;
    filled += count;
  }
  return target;
}
