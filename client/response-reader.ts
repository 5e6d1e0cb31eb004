/**
 * Reads the one HTTP response that comes before a connection is trusted (docs/evidence.md section 5). A primer:
 *
 * HTTP/1.1 (RFC 9112) leaves a receiver many ways to find the end of a response, and two receivers that choose
 * differently are how responses get smuggled. Here exactly one is accepted: status 200, one Content-Length,
 * that many bytes, and then silence. No interim (1xx) responses, no chunks, no encodings, no folded lines, no
 * line ending but CRLF. Head and body are bounded before they are kept.
 *
 * One other answer is read whole: the refusal of a client certificate, whose code says what to do about it.
 */
import { EVIDENCE_MAX_BYTES } from '../shared/evidence/evidence.ts';
import { ClientError } from './errors.ts';

export const HEAD_MAX_BYTES = 8 * 1024;
const HEADER_FIELDS_MAX = 64;
const REFUSAL_MAX_BYTES = 4096;

const STATUS_LINE = /^HTTP\/1\.1 ([1-9][0-9]{2}) [\t\x20-\x7e\x80-\xff]*$/;
/** RFC 9110 5.1 and 5.5: a token, a colon, a value without control characters. */
const HEADER_FIELD = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*([\t\x20-\x7e\x80-\xff]*?)[\t ]*$/;
const CONTENT_LENGTH = /^[1-9][0-9]{0,8}$/;

export class ResponseReader {
  #head: Uint8Array = new Uint8Array(0);
  #body: Uint8Array | undefined;
  #bodyFilled = 0;
  #refused = false;

  /** Takes the next bytes; true once the response is whole. Throws ClientError, and is then of no further use. */
  push(chunk: Uint8Array): boolean {
    let rest = chunk;
    if (this.#body === undefined) {
      const afterHead = this.#takeHead(chunk);
      if (afterHead === undefined) return false;
      rest = afterHead;
    }
    const body = this.#body as unknown as Uint8Array;
    if (rest.length > body.length - this.#bodyFilled) {
      throw new ClientError(
        'CLIENT_RESPONSE_EXTRA',
        `Expected ${body.length} bytes of evidence and nothing after them, found more.`,
      );
    }
    body.set(rest, this.#bodyFilled);
    this.#bodyFilled += rest.length;
    if (this.#bodyFilled < body.length) return false;
    if (this.#refused) throw refusalIn(body);
    return true;
  }

  /** The whole body. */
  get body(): Uint8Array {
    if (this.#body === undefined || this.#bodyFilled < this.#body.length) throw new Error('not whole yet');
    return this.#body;
  }

  /** Collects the head; once it is whole, allocates the body and returns what follows the head. */
  #takeHead(chunk: Uint8Array): Uint8Array | undefined {
    const before = this.#head.length;
    // One byte more than a head may have shows that it is too long; the rest of the chunk need not be kept.
    const taken = chunk.subarray(0, HEAD_MAX_BYTES + 1 - before);
    const joined = Buffer.concat([this.#head, taken]);
    const end = joined.indexOf('\r\n\r\n', Math.max(0, before - 3), 'latin1');
    if (end === -1) {
      if (joined.length > HEAD_MAX_BYTES) throw malformed(`its head has more than ${HEAD_MAX_BYTES} bytes`);
      this.#head = joined;
      return undefined;
    }
    const { refused, length } = bodyOf(joined.toString('latin1', 0, end));
    this.#refused = refused;
    this.#body = new Uint8Array(length);
    this.#head = new Uint8Array(0);
    return chunk.subarray(end + 4 - before);
  }
}

interface BodyToCome {
  /** It says why the caller is refused, in place of evidence. */
  readonly refused: boolean;
  readonly length: number;
}

/** Checks the head. */
function bodyOf(head: string): BodyToCome {
  const [statusLine = '', ...lines] = head.split('\r\n');
  const status = STATUS_LINE.exec(statusLine)?.[1];
  if (status === undefined) throw malformed(`its status line is ${shown(statusLine)}`);
  const fields = readFields(lines);
  if (status === '429' || status === '503') {
    const seconds = retryAfterSeconds(fields);
    const when = seconds === undefined ? 'a while' : `${seconds} s`;
    throw new ClientError(
      'CLIENT_BUSY',
      `The enclave answers ${status}; try again in ${when}.`,
      undefined,
      seconds,
    );
  }
  const refused = status === '403';
  if (status !== '200' && !refused) {
    throw new ClientError('CLIENT_NO_EVIDENCE', `Expected evidence with status 200, found status ${status}.`);
  }

  for (const name of ['transfer-encoding', 'content-encoding', 'upgrade', 'trailer']) {
    if (fields.has(name)) throw malformed(`it has the field ${name}, which evidence never has`);
  }
  if (fields.get('content-type')?.join() !== 'application/json') {
    throw malformed(
      `its content-type is ${shown(fields.get('content-type')?.join())}, not "application/json"`,
    );
  }
  if (!refused && fields.get('connection')?.some((value) => /close/i.test(value))) {
    throw new ClientError('CLIENT_BUSY', 'The enclave is about to close this connection; try again.');
  }
  const lengths = fields.get('content-length') ?? [];
  const [length] = lengths;
  if (lengths.length !== 1 || length === undefined || !CONTENT_LENGTH.test(length)) {
    throw malformed(`expected one content-length with a plain number, found ${shown(lengths.join(' and '))}`);
  }
  const limit = refused ? REFUSAL_MAX_BYTES : EVIDENCE_MAX_BYTES;
  if (Number(length) > limit) throw malformed(`its body has ${length} bytes, more than ${limit}`);
  return { refused, length: Number(length) };
}

/** `{"error": text, "code": code}` (docs/serving.md section 4). Of what nobody has verified, only the code is repeated. */
function refusalIn(body: Uint8Array): ClientError {
  const [, code] = /"code":"(CALLER_[A-Z_]{1,40})"/.exec(Buffer.from(body).toString('latin1')) ?? [];
  if (code === undefined) {
    return new ClientError('CLIENT_NO_EVIDENCE', 'Expected evidence with status 200, found status 403.');
  }
  return code === 'CALLER_CERTIFICATE_REQUIRED'
    ? new ClientError('CLIENT_CERTIFICATE_REQUIRED', 'The enclave asks for a client certificate.')
    : new ClientError('CLIENT_CERTIFICATE_REFUSED', `The enclave refuses the client certificate: ${code}.`);
}

function readFields(lines: readonly string[]): ReadonlyMap<string, readonly string[]> {
  if (lines.length > HEADER_FIELDS_MAX)
    throw malformed(`it has more than ${HEADER_FIELDS_MAX} header fields`);
  const fields = new Map<string, string[]>();
  for (const line of lines) {
    const match = HEADER_FIELD.exec(line);
    if (match === null) throw malformed(`it has the header line ${shown(line)}`);
    const [, name = '', value = ''] = match;
    const values = fields.get(name.toLowerCase()) ?? [];
    values.push(value);
    fields.set(name.toLowerCase(), values);
  }
  return fields;
}

function retryAfterSeconds(fields: ReadonlyMap<string, readonly string[]>): number | undefined {
  const [seconds] = fields.get('retry-after') ?? [];
  return seconds !== undefined && /^[0-9]{1,6}$/.test(seconds) ? Number(seconds) : undefined;
}

function shown(text: string | undefined): string {
  return text === undefined ? 'missing' : JSON.stringify(text.slice(0, 80));
}

function malformed(found: string): ClientError {
  return new ClientError('CLIENT_RESPONSE_MALFORMED', `The answer is not usable as evidence: ${found}.`);
}
