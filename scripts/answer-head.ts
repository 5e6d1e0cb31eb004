/** The head of an HTTP answer as `curl -D FILE` writes it: what a receipt says beside the body. */
import { FRAMING_HEADER, RECEIPT_HEADER, RECEIPT_SALT_HEADER } from '../shared/receipt/receipt.ts';
import { CommandError } from './errors.ts';

export interface SavedAnswerHead {
  readonly status: number;
  readonly contentType: string | undefined;
  readonly framing: string | undefined;
  /** As the headers have them: base64url. */
  readonly receipt: string | undefined;
  readonly salt: string | undefined;
}

export const ANSWER_HEAD_MAX_BYTES = 256 * 1024;

export function isAnswerHead(bytes: Uint8Array): boolean {
  return Buffer.from(bytes.subarray(0, 5)).toString('latin1') === 'HTTP/';
}

/** The last head of the file: interim answers come before it. Throws CommandError INPUT_UNREADABLE. */
export function parseAnswerHead(bytes: Uint8Array): SavedAnswerHead {
  if (bytes.length > ANSWER_HEAD_MAX_BYTES) throw unreadable(`more than ${ANSWER_HEAD_MAX_BYTES} bytes`);
  const heads = Buffer.from(bytes)
    .toString('latin1')
    .trim()
    .split(/\r?\n\r?\n/);
  const [statusLine = '', ...lines] = heads.at(-1)?.split(/\r?\n/) ?? [];
  const status = /^HTTP\/\d(?:\.\d)? (\d{3})(?: .*)?$/.exec(statusLine)?.[1];
  if (status === undefined) throw unreadable(`no status line, found "${statusLine.slice(0, 40)}"`);
  const values = new Map<string, string>();
  for (const line of lines) {
    const [, name = '', value = ''] = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? [];
    if (name === '') throw unreadable(`a line that is no header: "${line.slice(0, 40)}"`);
    if (values.has(name.toLowerCase()) && KNOWN.includes(name.toLowerCase())) {
      throw unreadable(`the header ${name} twice`);
    }
    values.set(name.toLowerCase(), value);
  }
  return {
    status: Number(status),
    contentType: values.get('content-type'),
    framing: values.get(FRAMING_HEADER),
    receipt: values.get(RECEIPT_HEADER),
    salt: values.get(RECEIPT_SALT_HEADER),
  };
}

/** Opposite of `parseAnswerHead`. */
export function formatAnswerHead({ status, contentType, framing, receipt, salt }: SavedAnswerHead): Buffer {
  const fields = [
    ['content-type', contentType],
    [FRAMING_HEADER, framing],
    [RECEIPT_SALT_HEADER, salt],
    [RECEIPT_HEADER, receipt],
  ].filter(([, value]) => value !== undefined);
  const lines = [`HTTP/1.1 ${status}`, ...fields.map(([name, value]) => `${name}: ${value}`)];
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
}

const KNOWN = ['content-type', FRAMING_HEADER, RECEIPT_HEADER, RECEIPT_SALT_HEADER];

function unreadable(found: string): CommandError {
  return new CommandError(
    'INPUT_UNREADABLE',
    `Expected the head of an answer as "curl -D" writes it: ${found}.`,
  );
}
