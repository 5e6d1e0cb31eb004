/**
 * An exchange with its receipt, kept in three files that `strongroom receipt verify` reads: FILE is the head of the
 * answer as `curl -D` saves it, with receipt and salt; FILE.request and FILE.answer are the two bodies, byte for byte.
 * The receipt of a stream stands in both FILE and the end of FILE.answer, where it came.
 */
import { rm } from 'node:fs/promises';
import {
  type AnswerReceipt,
  type ClientExpectations,
  type ReceiptGiver,
  receiptOf,
  withReceipts,
} from '../../client/index.ts';
import { writeFileAside } from '../../owner/aside-file.ts';
import { expectAbsent } from '../../owner/rename.ts';
import { FRAMING_HEADER } from '../../shared/receipt/receipt.ts';
import { formatAnswerHead } from '../answer-head.ts';

/** The salt is in one of the files and the prompt in another: for their owner alone. */
const FILE_MODE = 0o600;

export interface KeptFiles {
  readonly receipt: string;
  readonly request: string;
  readonly answer: string;
}

export function keptFiles(receipt: string): KeptFiles {
  return { receipt, request: `${receipt}.request`, answer: `${receipt}.answer` };
}

/** Before anything is asked. Throws OwnerError OWNER_WOULD_OVERWRITE. */
export async function expectRoom(files: KeptFiles): Promise<void> {
  for (const path of Object.values(files)) await expectAbsent(path);
}

export interface KeptReceipt {
  readonly files: KeptFiles;
  /** Path and query of the request. */
  readonly path: string;
  readonly receipt: AnswerReceipt;
}

interface Exchange {
  readonly target: string;
  readonly request: Uint8Array;
  readonly answer: Uint8Array[];
}

export class ExchangeKeeper {
  /** Asks for a receipt. Whoever reads its answer gets it as it comes; one exchange is kept, the last. */
  readonly fetch: typeof globalThis.fetch;
  #exchange: Exchange | undefined;
  #response: Response | undefined;

  constructor(enclave: ReceiptGiver, expectations: ClientExpectations) {
    const watched: ReceiptGiver = {
      fetch: (input, init) => this.#watch(enclave, input, init),
      hasReceiptKey: (spki) => enclave.hasReceiptKey(spki),
    };
    const asking = withReceipts(watched, expectations);
    this.fetch = async (input, init) => {
      this.#response = await asking(input, init);
      return this.#response;
    };
  }

  /**
   * Writes the three files, once the answer was read to its end. Rejects with ReceiptError (`RECEIPT_MISSING` if the
   * answer was cut), AttestationError, CodecError or OwnerError, and as the file system does; then there is none of them.
   */
  async keep(files: KeptFiles): Promise<KeptReceipt> {
    const [response, exchange] = [this.#response, this.#exchange];
    if (response === undefined || exchange === undefined) throw new Error('nothing was asked');
    const receipt = await receiptOf(response);
    const head = formatAnswerHead({
      status: response.status,
      contentType: response.headers.get('content-type') ?? undefined,
      framing: response.headers.get(FRAMING_HEADER) ?? undefined,
      receipt: Buffer.from(receipt.receipt).toString('base64url'),
      salt: Buffer.from(receipt.salt).toString('base64url'),
    });
    await writeAll([
      [files.request, [exchange.request]],
      [files.answer, exchange.answer],
      [files.receipt, [head]], // last: where it is, the others are
    ]);
    return { files, path: exchange.target, receipt };
  }

  async #watch(
    enclave: ReceiptGiver,
    ...[input, init]: Parameters<typeof globalThis.fetch>
  ): Promise<Response> {
    const answer: Uint8Array[] = [];
    this.#exchange = { target: String(input), request: init?.body as Uint8Array, answer };
    const response = await enclave.fetch(input, init);
    const { body, status, statusText, headers } = response;
    if (body === null) return response;
    const copying = new TransformStream<Uint8Array, Uint8Array>({
      transform: (chunk, controller) => {
        answer.push(chunk);
        controller.enqueue(chunk);
      },
    });
    return new Response(body.pipeThrough(copying), { status, statusText, headers });
  }
}

async function writeAll(
  contents: readonly (readonly [path: string, pieces: readonly Uint8Array[]])[],
): Promise<void> {
  const written: string[] = [];
  try {
    for (const [path, pieces] of contents) {
      await writeFileAside({ path, mode: FILE_MODE }, async (file) => {
        for (const piece of pieces) await file.writeFile(piece);
      });
      written.push(path);
    }
  } catch (error) {
    for (const path of written) await rm(path, { force: true });
    throw error;
  }
}
