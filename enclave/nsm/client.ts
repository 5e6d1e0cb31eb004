/**
 * Typed requests to the Nitro Secure Module, over whatever carries bytes to it: the device (device.ts) or the
 * simulator's socket. The NSM serves one request at a time, so this client sends one at a time, in order.
 */
import { encodeNsmRequest, type NsmRequest } from '../../shared/nsm/request.ts';
import { decodeNsmResponse, type NsmErrorName, type NsmResponse } from '../../shared/nsm/response.ts';
import { NsmError, type NsmErrorCode } from './errors.ts';

export interface NsmDescription {
  readonly version: string;
  /** `i-<17 hex>-enc<16 hex>` */
  readonly moduleId: string;
  readonly maxPcrs: number;
  readonly lockedPcrs: readonly number[];
}

/** Each field at most 512 bytes, or null. */
export interface AttestationRequest {
  readonly userData: Uint8Array | null;
  readonly nonce: Uint8Array | null;
  readonly publicKey: Uint8Array | null;
}

/** Every method rejects with NsmError. */
export interface Nsm {
  describe(): Promise<NsmDescription>;
  /** As many bytes as the NSM gives at once: 256. The caller wipes them. */
  random(): Promise<Uint8Array>;
  describePcr(index: number): Promise<{ readonly lock: boolean; readonly data: Uint8Array }>;
  /** The new value: SHA384(old value || data). */
  extendPcr(index: number, data: Uint8Array): Promise<Uint8Array>;
  lockPcr(index: number): Promise<void>;
  /** Locks registers 0 up to but not including `range`. */
  lockPcrs(range: number): Promise<void>;
  /** The signed document (COSE_Sign1). It lists locked registers only. */
  attest(request: AttestationRequest): Promise<Uint8Array>;
}

export type NsmSend = (request: Uint8Array) => Promise<Uint8Array>;

type Answer<Kind extends NsmRequest['kind']> = Extract<NsmResponse, { kind: Kind }>;

const CODES: Readonly<Record<NsmErrorName, NsmErrorCode>> = {
  InvalidArgument: 'NSM_INVALID_ARGUMENT',
  InvalidIndex: 'NSM_INVALID_INDEX',
  InvalidResponse: 'NSM_INVALID_RESPONSE',
  ReadOnlyIndex: 'NSM_READ_ONLY_INDEX',
  InvalidOperation: 'NSM_INVALID_OPERATION',
  BufferTooSmall: 'NSM_BUFFER_TOO_SMALL',
  InputTooLarge: 'NSM_INPUT_TOO_LARGE',
  InternalError: 'NSM_INTERNAL_ERROR',
};

export function nsmClient(send: NsmSend): Nsm {
  let lastAnswer: Promise<unknown> = Promise.resolve();

  /** One request at a time; a failed one does not stop those behind it. */
  async function ask<Kind extends NsmRequest['kind']>(
    request: NsmRequest & { readonly kind: Kind },
  ): Promise<Answer<Kind>> {
    const bytes = encodeNsmRequest(request);
    const answer = lastAnswer.then(() => send(bytes));
    lastAnswer = answer.catch(() => undefined);
    return fitting(request.kind, await answer);
  }

  return {
    async describe() {
      const { versionMajor, versionMinor, versionPatch, moduleId, maxPcrs, lockedPcrs } = await ask({
        kind: 'DescribeNSM',
      });
      return { version: `${versionMajor}.${versionMinor}.${versionPatch}`, moduleId, maxPcrs, lockedPcrs };
    },
    random: async () => (await ask({ kind: 'GetRandom' })).random,
    async describePcr(index) {
      const { lock, data } = await ask({ kind: 'DescribePCR', index });
      return { lock, data };
    },
    extendPcr: async (index, data) => (await ask({ kind: 'ExtendPCR', index, data })).data,
    lockPcr: async (index) => void (await ask({ kind: 'LockPCR', index })),
    lockPcrs: async (range) => void (await ask({ kind: 'LockPCRs', range })),
    attest: async ({ userData, nonce, publicKey }) =>
      (await ask({ kind: 'Attestation', userData, nonce, publicKey })).document,
  };
}

function fitting<Kind extends NsmRequest['kind']>(kind: Kind, bytes: Uint8Array): Answer<Kind> {
  let response: NsmResponse;
  try {
    response = decodeNsmResponse(bytes);
  } catch (error) {
    throw new NsmError('NSM_ANSWER_UNUSABLE', `The NSM's answer to ${kind} cannot be read.`, error);
  }
  if (response.kind === 'Error') {
    throw new NsmError(CODES[response.error], `The NSM answered ${kind} with ${response.error}.`);
  }
  if (response.kind !== kind) {
    throw new NsmError('NSM_ANSWER_UNUSABLE', `The NSM answered ${kind} with ${response.kind}.`);
  }
  return response as Answer<Kind>;
}
