/**
 * What can be made to go wrong. Faults are injected through this object, in the process itself or over the
 * control lines of main.ts; nothing that a client sends over KMS's own wire can inject one.
 */

export type Fault =
  /** Answers with an error of this name: ThrottlingException, KMSInternalException (500), DisabledException... */
  | { readonly kind: 'error'; readonly name: string; readonly status?: number; readonly message?: string }
  /** The caller's session has expired. */
  | { readonly kind: 'expired-credentials' }
  /** KMS reads another value in this register of the attestation document than was attested. */
  | { readonly kind: 'alter-register'; readonly index: number }
  /** Answers late. */
  | { readonly kind: 'delay'; readonly ms: number }
  /** Never answers; the connection stays open. */
  | { readonly kind: 'hang' }
  /** Closes the connection in place of an answer. */
  | { readonly kind: 'reset' }
  /** Announces the whole answer and closes the connection after this many bytes of it. */
  | { readonly kind: 'truncate'; readonly bytes: number }
  /** Flips one bit in the middle of a member of the answer. */
  | { readonly kind: 'corrupt'; readonly member: 'CiphertextForRecipient' | 'CiphertextBlob' | 'Plaintext' }
  /** Answers with the last successful answer to the same operation, whoever asked then. */
  | { readonly kind: 'replay' };

export interface FaultScope {
  /** For example `Decrypt`. Every operation unless given. */
  readonly operation?: string;
  /** How many requests it meets. 1 unless given. */
  readonly times?: number;
}

/** The members of each kind; those that end in `?` may be left out. */
const KINDS: Readonly<Record<Fault['kind'], Readonly<Record<string, 'string' | 'number'>>>> = {
  error: { name: 'string', 'status?': 'number', 'message?': 'string' },
  'expired-credentials': {},
  'alter-register': { index: 'number' },
  delay: { ms: 'number' },
  hang: {},
  reset: {},
  truncate: { bytes: 'number' },
  corrupt: { member: 'string' },
  replay: {},
};

export class Faults {
  readonly #waiting: { readonly fault: Fault; readonly operation: string | undefined; left: number }[] = [];

  inject(fault: Fault, scope: FaultScope = {}): void {
    this.#waiting.push({ fault, operation: scope.operation, left: scope.times ?? 1 });
  }

  clear(): void {
    this.#waiting.length = 0;
  }

  /** The first fault that waits for this operation; counts it as met. */
  take(operation: string): Fault | undefined {
    const index = this.#waiting.findIndex((entry) => (entry.operation ?? operation) === operation);
    const entry = this.#waiting[index];
    if (entry === undefined) return undefined;
    entry.left -= 1;
    if (entry.left <= 0) this.#waiting.splice(index, 1);
    return entry.fault;
  }
}

/** Reads a fault from a control line. Throws TypeError with what is wrong. */
export function readFault(value: unknown): Fault {
  const { kind, ...members } = Object(value) as { readonly [name: string]: unknown };
  const known =
    typeof kind === 'string' && Object.hasOwn(KINDS, kind) ? KINDS[kind as Fault['kind']] : undefined;
  if (known === undefined) throw new TypeError(`unknown kind of fault ${JSON.stringify(kind)}`);
  for (const [name, member] of Object.entries(members)) {
    const type = Object.hasOwn(known, name) ? known[name] : known[`${name}?`];
    if (typeof member !== type) {
      throw new TypeError(`unexpected member ${JSON.stringify(name)} of the fault "${kind}"`);
    }
  }
  for (const name of Object.keys(known)) {
    if (!name.endsWith('?') && !Object.hasOwn(members, name)) {
      throw new TypeError(`the fault "${kind}" needs the member ${JSON.stringify(name)}`);
    }
  }
  return value as Fault;
}
