import { type ErrorTable, StrongroomError } from '../shared/errors.ts';

export const clientErrors = {
  CLIENT_URL: {
    exit: 2,
    means: 'The URL does not name a Strongroom enclave.',
    action: 'Use https://HOST:PORT, without path, query or credentials.',
  },
  CLIENT_EXPECTATIONS: {
    exit: 2,
    means: 'The expectations are missing, empty or not understood.',
    action:
      'Give PCR0 and PCR16 from your reviewer, or spell them "any"; docs/evidence.md section 6 has the format.',
  },
  CLIENT_OPTIONS: {
    exit: 2,
    means: 'An option of the client is out of its range.',
    action: 'Correct the option that the message names; client/README.md lists them.',
  },
  CLIENT_CERTIFICATE_UNUSABLE: {
    exit: 2,
    means: 'The client certificate or its key cannot be read, do not fit each other, or are not valid now.',
    action:
      'Give the certificate and its own key, both in PEM and within their time; renew them if they are over.',
  },
  CLIENT_CERTIFICATE_REQUIRED: {
    exit: 1,
    means: 'The enclave admits only callers with a client certificate, and none was shown.',
    action:
      'Ask whoever deployed the enclave for a certificate, and give it with its key; no request was sent.',
  },
  CLIENT_CERTIFICATE_REFUSED: {
    exit: 1,
    means: 'The enclave does not admit the client certificate that it was shown.',
    action: 'Ask whoever deployed the enclave which CA and names it admits; no request was sent.',
  },
  CLIENT_CLOSED: {
    exit: 2,
    means: 'A request was made after the client was closed, or while it was being ended.',
    action: 'Connect again; make requests before close().',
  },
  CLIENT_UNREACHABLE: {
    exit: 3,
    means: 'No connection could be opened, or it ended before TLS was set up.',
    action: 'Check the address, and that parent and enclave are running, then try again; nothing was sent.',
  },
  CLIENT_TLS: {
    exit: 1,
    means: 'The server does not speak TLS 1.3 as an enclave does.',
    action: 'Check that nothing between client and enclave ends the TLS connection; nothing was sent.',
  },
  CLIENT_TIMEOUT: {
    exit: 3,
    means: 'Connection, handshake and evidence did not finish in time.',
    action: 'Try again later; if it persists, ask the operator. No request was sent.',
  },
  CLIENT_BUSY: {
    exit: 3,
    means: 'The enclave is there and gives no evidence at the moment.',
    action: 'Try again after the time that the message names; no request was sent.',
  },
  CLIENT_CONNECTION_LOST: {
    exit: 3,
    means: 'The connection ended before its evidence was complete.',
    action: 'Try again; no request was sent.',
  },
  CLIENT_NO_EVIDENCE: {
    exit: 1,
    means: 'The server answered the evidence request with something other than evidence.',
    action: 'Check that the URL is that of a Strongroom enclave; no request was sent.',
  },
  CLIENT_RESPONSE_MALFORMED: {
    exit: 1,
    means: 'The answer to the evidence request is not the plain HTTP/1.1 response that an enclave sends.',
    action: 'Do not use this server; something between client and enclave may be altering the exchange.',
  },
  CLIENT_RESPONSE_EXTRA: {
    exit: 1,
    means: 'The server sent bytes that nobody asked for before the connection was handed over.',
    action: 'Do not use this server; such bytes could pass for the answer to a later request.',
  },
  CLIENT_DEPLOYMENT_MISMATCH: {
    exit: 1,
    means: 'The deployment that the evidence claims is not the one measured into PCR16.',
    action: 'Do not use this server, and tell your reviewer: its image does not measure what it says.',
  },
  CLIENT_PURPOSE: {
    exit: 1,
    means: 'The evidence is genuine and was made for something else than a TLS connection.',
    action: 'Do not use this server; it shows evidence that it obtained elsewhere.',
  },
  CLIENT_OTHER_SESSION: {
    exit: 1,
    means: 'The evidence is genuine and belongs to another TLS connection.',
    action: 'Do not use this server: somebody stands between you and the enclave.',
  },
  CLIENT_OTHER_CERTIFICATE: {
    exit: 1,
    means: 'The evidence is genuine and names another TLS certificate.',
    action: 'Do not use this server: somebody stands between you and the enclave.',
  },
  CLIENT_MODELS_MISMATCH: {
    exit: 1,
    means: 'The list of models beside the evidence is not the one that the evidence covers.',
    action: 'Do not use this server; something between client and enclave may be altering the exchange.',
  },
  CLIENT_MODEL_NOT_LOADED: {
    exit: 1,
    means: 'A model that you expect is not loaded as you expect it.',
    action:
      'Compare the loaded models in the message with your expectations; ask the operator which is right.',
  },
  CLIENT_OTHER_ORIGIN: {
    exit: 1,
    means: 'A request, or a redirect, names another server than the verified enclave.',
    action: 'Use another HTTP client for other servers; this one sends to the enclave alone.',
  },
  CLIENT_ANSWER_LOST: {
    exit: 3,
    means: 'The connection ended before the answer was whole, or the answer took too long.',
    action:
      'Try again if asking twice does no harm: whether the request was computed is not known. What came of the answer is not whole.',
  },
  CLIENT_ANSWER_MALFORMED: {
    exit: 1,
    means: 'The answer to a request is not HTTP/1.1, or does not say where it ends.',
    action: 'Do not use the answer; report it to the operator with the message.',
  },
  CLIENT_REQUEST_LATER: {
    exit: 3,
    means: 'The enclave was verified and takes no further request at the moment.',
    action:
      'Try again later, after the time that the message names if it names one; the request was not computed.',
  },
  CLIENT_REQUEST_REFUSED: {
    exit: 1,
    means: 'The enclave was verified and refused the request.',
    action:
      'Correct the request as the message says; the models are under /v1/models, the inputs of one that takes tensors under /v2/models/NAME.',
  },
} as const satisfies ErrorTable;

export type ClientErrorCode = keyof typeof clientErrors;

export class ClientError extends StrongroomError<ClientErrorCode> {
  /** When the enclave wants to be asked again, if it said so. */
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ClientErrorCode, message: string, cause?: unknown, retryAfterSeconds?: number) {
    super(clientErrors, code, message, cause);
    this.retryAfterSeconds = retryAfterSeconds;
  }
}
