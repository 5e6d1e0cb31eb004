/** Every check of a receipt with its outcome, for a person to follow (docs/receipts.md). Decides nothing itself. */
import { outcomesOf } from '../check-outcomes.ts';
import { StrongroomError } from '../errors.ts';
import { RECEIPT_CHECKS, type ReceiptCheck, type ReceiptCheckId, type ReceiptCheckResult } from './checks.ts';
import { parseReceipt, type UnverifiedReceipt } from './decode.ts';
import type { AnswerHead, RequestHead } from './receipt.ts';
import {
  expectAnswer,
  expectReceipt,
  expectRequest,
  type ReceiptExpectations,
  type ReceiptVerificationOptions,
  type VerifiedReceipt,
  verifyReceipt,
} from './verify.ts';

export interface ReceiptQuestions {
  readonly verification: ReceiptVerificationOptions;
  readonly expected?: ReceiptExpectations;
  readonly request?: { readonly salt: Uint8Array; readonly head: RequestHead; readonly body: Uint8Array };
  readonly answer?: { readonly salt: Uint8Array; readonly head: AnswerHead; readonly body: Uint8Array };
}

export interface ReceiptExplanation {
  readonly checks: readonly ReceiptCheckResult[];
  /** The fault, if any check failed. */
  readonly error: StrongroomError | undefined;
  /** As far as it came: what was read, and what was verified. */
  readonly parsed: UnverifiedReceipt | undefined;
  readonly verified: VerifiedReceipt | undefined;
}

/** Faults of the receipt are returned; errors that are not about it (a bug) are thrown. */
export function explainReceipt(bytes: Uint8Array, questions: ReceiptQuestions): ReceiptExplanation {
  const { verification, expected, request, answer } = questions;
  const passed = new Map<ReceiptCheckId, string>();
  const note = (check: ReceiptCheckId, found: string) => void passed.set(check, found);
  let error: StrongroomError | undefined;
  let parsed: UnverifiedReceipt | undefined;
  let verified: VerifiedReceipt | undefined;
  try {
    parsed = parseReceipt(bytes, note);
    verified = verifyReceipt(parsed, verification, note);
    if (expected !== undefined) expectReceipt(verified, expected, note);
    if (request !== undefined) expectRequest(verified, request.salt, request.head, [request.body], note);
    if (answer !== undefined) expectAnswer(verified, answer.salt, answer.head, [answer.body], note);
  } catch (fault) {
    if (!(fault instanceof StrongroomError)) throw fault;
    error = fault;
  }
  const notAsked = new Set<ReceiptCheckId>([
    ...(expected === undefined ? (['pcrs', 'model'] as const) : []),
    ...(request === undefined ? (['request'] as const) : []),
    ...(answer === undefined ? (['answer'] as const) : []),
  ]);
  const checks = outcomesOf<ReceiptCheck>(RECEIPT_CHECKS, passed, error, ({ id }) => !notAsked.has(id));
  return { checks, error, parsed, verified };
}
