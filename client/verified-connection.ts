import { randomBytes } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { EVIDENCE_PATH, NONCE_BYTES } from '../shared/evidence/evidence.ts';
import type { CheckedExpectations } from './expectations.ts';
import { type SessionSettings, TlsSession } from './tls-session.ts';
import { type EnclaveEvidence, verifyEvidence } from './verify-evidence.ts';

export interface OpenSettings extends SessionSettings {
  readonly now: () => Date;
}

/** Proves to the constructor that the caller is in this file, also where types are gone. */
const OPENED_HERE = Symbol('verified');

/** A connection whose evidence was verified. `open` is the only way to get one, and a socket out of it the only use. */
export class VerifiedConnection {
  readonly evidence: EnclaveEvidence;
  readonly #session: TlsSession;

  private constructor(proof: typeof OPENED_HERE, session: TlsSession, evidence: EnclaveEvidence) {
    if (proof !== OPENED_HERE) throw new TypeError('VerifiedConnection.open makes verified connections.');
    this.#session = session;
    this.evidence = evidence;
  }

  /** From nothing to verified: shake hands, ask for evidence, check it, hear nothing else. Rejects as `connect` does. */
  static async open(
    origin: URL,
    expected: CheckedExpectations,
    { now, ...settings }: OpenSettings,
  ): Promise<VerifiedConnection> {
    const session = await TlsSession.open(origin, settings);
    try {
      const nonce = randomBytes(NONCE_BYTES);
      const response = await session.ask(evidenceRequest(origin, nonce));
      const evidence = verifyEvidence(response, { nonce, ...session.facts(nonce) }, expected, now());
      await session.expectSilence();
      return new VerifiedConnection(OPENED_HERE, session, evidence);
    } catch (error) {
      session.destroy();
      throw error;
    }
  }

  /**
   * The socket of a verified connection, once. Throws ClientError `CLIENT_CONNECTION_LOST` if it has ended or if
   * the server spoke out of turn while it waited, and TypeError for anything that `open` did not make.
   */
  static takeSocket(connection: VerifiedConnection): TLSSocket {
    return connection.#session.release();
  }

  /** False once the connection has ended or the server has spoken out of turn. */
  get alive(): boolean {
    return this.#session.alive;
  }

  destroy(): void {
    this.#session.destroy();
  }
}

function evidenceRequest(origin: URL, nonce: Buffer): string {
  return [
    `GET ${EVIDENCE_PATH}?nonce=${nonce.toString('base64url')} HTTP/1.1`,
    `host: ${origin.host}`,
    'accept: application/json',
    '',
    '',
  ].join('\r\n');
}
