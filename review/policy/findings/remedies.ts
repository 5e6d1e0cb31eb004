/** What to do about a finding, as text and as a patch of the policy document (RFC 6902). */
import type { Condition, Statement } from '../../../shared/policy/model.ts';
import { registerOfKey, shownRegister } from '../attestation-keys.ts';
import type { PatchOperation, Remedy } from '../report.ts';
import type { World } from '../requests/world.ts';

/** Every action on a key that can carry an attestation document. */
const ATTESTABLE = [
  'kms:Decrypt',
  'kms:DeriveSharedSecret',
  'kms:GenerateDataKey',
  'kms:GenerateDataKeyPair',
];
const ESCAPES = ['kms:CreateGrant', 'kms:ReEncryptFrom', 'kms:ReplicateKey', 'kms:ImportKeyMaterial'];

export class Remedies {
  readonly #world: World;
  readonly #isList: boolean;

  constructor(world: World, isList: boolean) {
    this.#world = world;
    this.#isList = isList;
  }

  none(text: string): Remedy {
    return { text, patch: [] };
  }

  remove(statement: Statement, text = 'Remove this statement.'): Remedy {
    if (!this.#isList) return { text, patch: [] };
    return { text, patch: [{ op: 'remove', path: this.#path(statement) }] };
  }

  /** The conditions that pin the reviewed image, in this statement. */
  pin(statement: Statement, text: string): Remedy {
    const pins = this.#pins();
    if (Object.keys(pins).length === 0) return { text, patch: [] };
    return {
      text,
      patch: [
        { op: 'add', path: `${this.#path(statement)}/Condition`, value: { StringEqualsIgnoreCase: pins } },
      ],
    };
  }

  /** One Deny per register for everyone, which no later Allow, IAM policy or grant undoes. */
  denyOthers(text: string): Remedy {
    const pins = Object.entries(this.#pins());
    // A lone statement that is no list is made one by hand: a patch cannot refer to what it replaces.
    if (pins.length === 0 || !this.#isList) return { text, patch: [] };
    return {
      text,
      patch: pins.map(([key, value]) =>
        this.#append({
          Sid: `DenyOther${key.slice(key.lastIndexOf(':') + 1)}`,
          Effect: 'Deny',
          Principal: '*',
          Action: ATTESTABLE,
          Resource: '*',
          Condition: { StringNotEqualsIgnoreCase: { [key]: value } },
        }),
      ),
    };
  }

  denyActions(text: string, actions: readonly string[] = ESCAPES, condition?: object): Remedy {
    if (!this.#isList) return { text, patch: [] };
    return {
      text,
      patch: [
        this.#append({
          Sid: 'DenyEscapes',
          Effect: 'Deny',
          Principal: '*',
          Action: actions.length === 1 ? actions[0] : actions,
          Resource: '*',
          ...(condition === undefined ? {} : { Condition: condition }),
        }),
      ],
    };
  }

  /** Each condition of a Deny in a Deny of its own. */
  split(statement: Statement, text: string): Remedy {
    if (!this.#isList) return { text, patch: [] };
    const rest = { Effect: 'Deny', Principal: '*', Action: ATTESTABLE, Resource: '*' };
    const operations = statement.conditions
      .filter(({ key }) => registerOfKey(key) !== undefined)
      .map(({ operator, key, values }) =>
        this.#append({
          ...rest,
          Condition: { [operator.name]: { [key]: values.length === 1 ? values[0] : values } },
        }),
      );
    return { text, patch: operations };
  }

  /** The right register value in place of one that is wrong. */
  value(statement: Statement, condition: Condition, text: string): Remedy {
    const register = registerOfKey(condition.key);
    const value = register === undefined ? undefined : this.#registers()[register];
    if (value === undefined) return { text, patch: [] };
    const path = `${this.#path(statement)}/Condition/${pointer(condition.operator.name)}/${pointer(condition.key)}`;
    return { text, patch: [{ op: 'replace', path, value }] };
  }

  version(text: string): Remedy {
    return { text, patch: [{ op: 'add', path: '/Version', value: '2012-10-17' }] };
  }

  #registers(): Readonly<Record<string, string>> {
    const [pcr3] = this.#world.hostPcr3;
    return { ...this.#world.reviewed[0]?.registers, ...(pcr3 === undefined ? {} : { pcr3 }) };
  }

  /** PCR0, and what else is known of PCR3 and PCR16. */
  #pins(): Record<string, string> {
    const registers = this.#registers();
    return Object.fromEntries(
      ['pcr0', 'pcr3', 'pcr16'].flatMap((name) => {
        const value = registers[name];
        return value === undefined ? [] : [[`kms:RecipientAttestation:${shownRegister(name)}`, value]];
      }),
    );
  }

  #path({ index }: Statement): string {
    return this.#isList ? `/Statement/${index}` : '/Statement';
  }

  #append(value: object): PatchOperation {
    return { op: 'add', path: '/Statement/-', value };
  }
}

function pointer(text: string): string {
  return text.replaceAll('~', '~0').replaceAll('/', '~1');
}
