/** An error that KMS answers with: its wire name, HTTP status and text, and what only a simulator says. */
export class KmsException extends Error {
  readonly status: number;
  /** The member that carries the text: KMS writes `Message` for errors of IAM and `message` for its own. */
  readonly textMember: 'message' | 'Message';
  /** Why, in words. Goes to the side channel and the record, never into the body. */
  readonly explanation: readonly string[];

  constructor(
    name: string,
    message: string,
    options: {
      readonly status?: number;
      readonly textMember?: 'message' | 'Message';
      readonly explanation?: readonly string[];
    } = {},
  ) {
    super(message);
    this.name = name;
    this.status = options.status ?? 400;
    this.textMember = options.textMember ?? 'message';
    this.explanation = options.explanation ?? [];
  }
}

/** A parameter breaks a rule of the API (AWS KMS API reference, "Common Errors"). */
export function validation(member: string, constraint: string, explanation: string[] = []): KmsException {
  return new KmsException(
    'ValidationException',
    `1 validation error detected: Value at '${member}' failed to satisfy constraint: ${constraint}`,
    { explanation },
  );
}

/** KMS gives no text with this one: not even whether the context or the ciphertext was wrong. */
export function invalidCiphertext(explanation: string): KmsException {
  return new KmsException('InvalidCiphertextException', '', { explanation: [explanation] });
}
