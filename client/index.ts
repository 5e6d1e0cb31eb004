/** The public surface of the client SDK; everything else in this folder may change. */
export { StrongroomError } from '../shared/errors.ts';
export type { LoadedModel } from '../shared/evidence/evidence.ts';
export type {
  ClientCertificate,
  ClientCertificateFiles,
  ClientCertificateSource,
} from './client-certificate.ts';
export { type ConnectOptions, connect } from './connect.ts';
export { strongroomErrorIn } from './error-in.ts';
export { ClientError, type ClientErrorCode, clientErrors } from './errors.ts';
export type { ClientExpectations, ExpectedModel } from './expectations.ts';
export { parseExpectations, readExpectationsFile } from './expectations-file.ts';
export { type AnswerReceipt, type ReceiptGiver, receiptOf, withReceipts } from './receipt.ts';
export { type AgentOptions, VerifiedAgent } from './verified-agent.ts';
export type { VerifiedEnclave } from './verified-enclave.ts';
export type { EnclaveEvidence } from './verify-evidence.ts';
