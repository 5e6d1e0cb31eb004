/**
 * The attestation documents that a request could carry, by what an attacker can make a register equal
 * (docs/policy-review.md section 2). Each is a set of registers with the values that they could have together.
 */
import { asciiLower, globMatches } from '../../../shared/policy/glob.ts';
import type { Condition, Policy } from '../../../shared/policy/model.ts';
import {
  CONSTANT_REGISTERS,
  freshDigest,
  HOST_REGISTERS,
  isDigest,
  NITRO_TPM_REGISTERS,
  registerOfKey,
  SIGNER_REGISTER,
  USER_REGISTERS,
  ZERO,
} from '../attestation-keys.ts';
import { instancesOf } from './domains.ts';
import type { World } from './world.ts';

export type AttestationKind =
  | 'reviewed'
  /** The reviewed image with another deployment document, or on another host. */
  | 'reviewed-elsewhere'
  | 'any-image'
  | 'same-kernel'
  | 'same-application'
  | 'same-signer'
  | 'named-image'
  | 'pattern-image'
  | 'debug'
  | 'debug-populated'
  | 'other-platform';

export interface Attestation {
  /** Short and unique, for people. */
  readonly name: string;
  readonly kind: AttestationKind;
  readonly platform: 'enclave' | 'nitro-tpm';
  /** By register in lower case: the values that it could have. */
  readonly registers: ReadonlyMap<string, readonly string[]>;
}

/** What the policies say about registers. */
export class RegisterValues {
  readonly #literals = new Map<string, Set<string>>();
  readonly #patterns = new Map<string, Set<string>>();
  readonly #mentioned = new Set<string>();

  constructor(policies: readonly Policy[]) {
    for (const { statements } of policies) {
      for (const { conditions } of statements) for (const condition of conditions) this.#read(condition);
    }
  }

  #read({ key, operator, values }: Condition): void {
    const register = registerOfKey(key);
    if (register === undefined) return;
    this.#mentioned.add(register);
    for (const value of values) {
      const lower = asciiLower(value);
      const isPattern =
        (operator.comparison === 'string-like' || operator.comparison === 'arn') && /[*?]/.test(value);
      const target = isPattern ? this.#patterns : isDigest(lower) ? this.#literals : undefined;
      if (target === undefined) continue;
      target.set(register, (target.get(register) ?? new Set()).add(lower));
    }
  }

  literals(register: string): string[] {
    return [...(this.#literals.get(register) ?? [])].filter((value) => value !== ZERO);
  }

  patterns(register: string): string[] {
    return [...(this.#patterns.get(register) ?? [])];
  }

  /** Values that match a pattern of this register and are digests; a long pattern may have none. */
  instances(register: string): string[] {
    return this.patterns(register).flatMap((pattern) =>
      instancesOf(pattern).flatMap((text) => {
        const value = fitted(pattern, text);
        return value !== undefined && isDigest(value) && value !== ZERO ? [value] : [];
      }),
    );
  }

  fresh(register: string, label: string): string {
    const literals = new Set(this.literals(register));
    const patterns = this.patterns(register).filter((pattern) => /[^*?]/.test(pattern));
    return freshDigest(
      `${register} ${label}`,
      (value) => literals.has(value) || patterns.some((pattern) => globMatches(pattern, value)),
    );
  }

  /** Those that a condition mentions, whatever it says. */
  get registers(): string[] {
    return [...this.#mentioned];
  }
}

/** A pattern's text made 96 digits long where a star leaves room for it. */
function fitted(pattern: string, instance: string): string | undefined {
  if (instance.length === 96) return instance;
  const star = pattern.indexOf('*');
  if (star < 0) return undefined;
  const before = pattern.slice(0, star).replaceAll('?', '1');
  const after = pattern.slice(star).replaceAll('*', '').replaceAll('?', '1');
  const room = 96 - before.length - after.length;
  return room < 0 ? undefined : `${before}${'5a'.repeat(48).slice(0, room)}${after}`;
}

export function attestationsOf(world: World): Attestation[] {
  const policies = [world.keyPolicy, ...[...world.iamPolicies.values()].flat().map(({ policy }) => policy)];
  const values = new RegisterValues(policies);
  const images = new ImageFactory(world, values);
  return [
    ...images.reviewed(),
    ...images.reviewedElsewhere(),
    ...images.attackers(),
    ...images.named(),
    ...images.patterns(),
    ...images.debug(),
    ...images.otherPlatform(),
  ];
}

type Choices = Readonly<Record<string, readonly string[]>>;

class ImageFactory {
  readonly #world: World;
  readonly #values: RegisterValues;
  readonly #fresh: Readonly<Record<'pcr0' | 'pcr1' | 'pcr2' | 'pcr8', string>>;
  readonly #around: Choices;

  constructor(world: World, values: RegisterValues) {
    this.#world = world;
    this.#values = values;
    this.#fresh = {
      pcr0: values.fresh('pcr0', 'image'),
      pcr1: values.fresh('pcr1', 'kernel'),
      pcr2: values.fresh('pcr2', 'application'),
      pcr8: values.fresh('pcr8', 'signer'),
    };
    // A register that nobody asks about may as well be left out: then it is zero.
    const asked = new Set(['pcr16', ...values.registers]);
    // An attacker starts enclaves on whatever host and extends whatever the application may extend.
    this.#around = {
      ...Object.fromEntries(
        CONSTANT_REGISTERS.filter((name) => asked.has(name)).map((name) => [name, [ZERO]]),
      ),
      ...Object.fromEntries(HOST_REGISTERS.map((name) => [name, this.#free(name)])),
      ...Object.fromEntries(
        USER_REGISTERS.filter((name) => asked.has(name)).map((name) => [name, [ZERO, ...this.#free(name)]]),
      ),
    };
  }

  #free(register: string): string[] {
    const { hostPcr3, reviewed } = this.#world;
    const own = [
      ...(register === 'pcr3' ? hostPcr3 : []),
      ...reviewed.flatMap(({ registers }) => registers[register] ?? []),
    ];
    const { literals, instances, fresh } = {
      literals: this.#values.literals(register),
      instances: this.#values.instances(register),
      fresh: this.#values.fresh(register, 'free'),
    };
    return [...new Set([...own, ...literals, ...instances, fresh])];
  }

  #image(name: string, kind: AttestationKind, registers: Choices): Attestation {
    return {
      name,
      kind,
      platform: 'enclave',
      registers: new Map(Object.entries({ ...this.#around, ...registers })),
    };
  }

  reviewed(): Attestation[] {
    return this.#world.reviewed.map(({ name, registers }) => {
      const given = Object.fromEntries(
        Object.entries(registers).map(([register, value]) => [register, [value]]),
      );
      const unknown = {
        pcr1: [this.#fresh.pcr1, ...this.#values.literals('pcr1')],
        pcr2: [this.#fresh.pcr2, ...this.#values.literals('pcr2')],
        pcr8: [ZERO, ...this.#values.literals('pcr8'), this.#fresh.pcr8],
      };
      const host = this.#world.hostPcr3.length > 0 ? { pcr3: this.#world.hostPcr3 } : {};
      return this.#image(name, 'reviewed', { ...unknown, ...given, ...host });
    });
  }

  /** One register other than that of the reviewed deployment or host, the others free. */
  reviewedElsewhere(): Attestation[] {
    return this.#world.reviewed.flatMap(({ name, registers }) => {
      const image = Object.fromEntries(
        Object.entries(registers).flatMap(([register, value]) =>
          register in this.#fresh ? [[register, [value]] as const] : [],
        ),
      );
      const unknown = { pcr1: [this.#fresh.pcr1], pcr2: [this.#fresh.pcr2], pcr8: [ZERO, this.#fresh.pcr8] };
      const others = (register: string, own: readonly string[]) =>
        [...(register.length > 4 ? [ZERO] : []), ...this.#free(register)].filter(
          (value) => !own.includes(value),
        );
      const deployment = registers.pcr16;
      const unbound = {
        pcr3: [this.#values.fresh('pcr3', 'free')],
        pcr4: [this.#values.fresh('pcr4', 'free')],
      };
      return [
        ...(deployment === undefined
          ? []
          : [
              this.#image(`${name}, another deployment`, 'reviewed-elsewhere', {
                ...unknown,
                ...image,
                pcr16: others('pcr16', [deployment]),
              }),
            ]),
        this.#image(`${name}, another host`, 'reviewed-elsewhere', { ...unknown, ...image, ...unbound }),
        this.#image(`${name}, signed otherwise`, 'reviewed-elsewhere', {
          ...image,
          pcr8: [ZERO, this.#fresh.pcr8, ...this.#values.literals('pcr8')],
        }),
      ];
    });
  }

  /** Images that anybody can build. */
  attackers(): Attestation[] {
    const { pcr0, pcr1, pcr2, pcr8 } = this.#fresh;
    // A certificate of one's own can be ground until a short pattern takes it.
    const unsigned = [ZERO, pcr8, ...this.#values.instances(SIGNER_REGISTER)];
    const other = { pcr0: [pcr0], pcr1: [pcr1], pcr2: [pcr2], pcr8: unsigned };
    const kernels = this.#contents('pcr1');
    const applications = this.#contents('pcr2');
    const signers = this.#contents(SIGNER_REGISTER);
    return [
      this.#image('any other image', 'any-image', other),
      ...(kernels.length === 0
        ? []
        : [
            this.#image('another application on a kernel that is accepted', 'same-kernel', {
              ...other,
              pcr1: kernels,
            }),
          ]),
      ...(applications.length === 0
        ? []
        : [
            this.#image('an application that is accepted on another kernel', 'same-application', {
              ...other,
              pcr2: applications,
            }),
          ]),
      ...(signers.length === 0
        ? []
        : [
            this.#image('another image of the same signer', 'same-signer', {
              ...other,
              pcr1: [pcr1, ...kernels],
              pcr8: signers,
            }),
            this.#image('another image of the same signer, same application', 'same-signer', {
              ...other,
              pcr2: [pcr2, ...applications],
              pcr8: signers,
            }),
          ]),
    ];
  }

  /** Values of the register that real images have: the reviewed one's and those that the policies name. */
  #contents(register: string): string[] {
    const own = this.#world.reviewed.flatMap(({ registers }) => registers[register] ?? []);
    return [...new Set([...own, ...this.#values.literals(register)])].filter((value) => value !== ZERO);
  }

  /** Images whose digests the policies name, and those of supplied releases. */
  named(): Attestation[] {
    const { pcr0, pcr1, pcr2, pcr8 } = this.#fresh;
    const reviewed = this.#world.reviewed.map(({ registers }) => registers);
    const releases = [...this.#world.releases].filter(
      ([, registers]) => !reviewed.some((own) => own.pcr0 === registers.pcr0),
    );
    const isReviewed = (value: string) => reviewed.some((own) => own.pcr0 === value);
    const released = (value: string) => releases.some(([, registers]) => registers.pcr0 === value);
    const kernels = this.#contents('pcr1');
    const applications = this.#contents('pcr2');
    const signers = [ZERO, pcr8, ...this.#contents(SIGNER_REGISTER)];
    const known = releases.map(([name, registers]) =>
      this.#image(`release ${name}`, 'named-image', {
        pcr1: [pcr1, ...kernels],
        pcr2: [pcr2, ...applications],
        pcr8: signers,
        ...Object.fromEntries(Object.entries(registers).map(([register, value]) => [register, [value]])),
      }),
    );
    const byDigest = this.#values
      .literals('pcr0')
      .filter((value) => !isReviewed(value) && !released(value))
      .flatMap((value) =>
        this.#contentPairs([pcr1, ...kernels], [pcr2, ...applications]).map(([first, second], index) =>
          this.#image(
            `the image ${value.slice(0, 12)}…${index === 0 ? '' : ` (${index + 1})`}`,
            'named-image',
            {
              pcr0: [value],
              pcr1: first,
              pcr2: second,
              pcr8: signers,
            },
          ),
        ),
      );
    const byContent = this.#contentPairs(kernels, applications).map(([first, second], index) =>
      this.#image(`another image of accepted parts${index === 0 ? '' : ` (${index + 1})`}`, 'named-image', {
        pcr0: [pcr0],
        pcr1: first,
        pcr2: second,
        pcr8: signers,
      }),
    );
    return [...known, ...byDigest, ...byContent];
  }

  /** Kernel and application in every combination but that of a reviewed image, whose PCR0 they determine. */
  #contentPairs(kernels: readonly string[], applications: readonly string[]): [string[], string[]][] {
    const own = this.#world.reviewed.flatMap(({ registers }) => registers.pcr1 ?? []);
    const others = kernels.filter((value) => !own.includes(value));
    const pairs: [string[], string[]][] = others.length === 0 ? [] : [[others, [...applications]]];
    for (const value of kernels.filter((one) => own.includes(one))) {
      const taken = this.#world.reviewed.flatMap(({ registers }) =>
        registers.pcr1 === value ? (registers.pcr2 ?? []) : [],
      );
      pairs.push([[value], applications.filter((one) => !taken.includes(one))]);
    }
    return pairs.filter(([first, second]) => first.length > 0 && second.length > 0);
  }

  /** Images whose digest a pattern takes. */
  patterns(): Attestation[] {
    const { pcr0, pcr1, pcr2, pcr8 } = this.#fresh;
    const signers = [ZERO, pcr8, ...this.#contents(SIGNER_REGISTER)];
    const own = new Set(this.#world.reviewed.flatMap(({ registers }) => Object.values(registers)));
    const of = (register: string) => this.#values.instances(register).filter((value) => !own.has(value));
    if (['pcr0', 'pcr1', 'pcr2'].every((register) => of(register).length === 0)) return [];
    const digests = [pcr0, ...of('pcr0')];
    const kernels = [...of('pcr1'), pcr1, ...this.#contents('pcr1')];
    const applications = [...of('pcr2'), pcr2, ...this.#contents('pcr2')];
    return this.#contentPairs(kernels, applications).map(([first, second], index) =>
      this.#image(
        `an image whose digest the pattern takes${index === 0 ? '' : ` (${index + 1})`}`,
        'pattern-image',
        {
          pcr0: digests,
          pcr1: first,
          pcr2: second,
          pcr8: signers,
        },
      ),
    );
  }

  /** PCR0 to PCR2 are zero. Whether the others survive debug mode is contested. */
  debug(): Attestation[] {
    const image = { pcr0: [ZERO], pcr1: [ZERO], pcr2: [ZERO] };
    const asked = USER_REGISTERS.filter((name) => this.#values.registers.includes(name));
    const zeros = Object.fromEntries(['pcr3', 'pcr4', 'pcr8', ...asked].map((name) => [name, [ZERO]]));
    return [
      this.#image('a debug enclave', 'debug', { ...image, ...zeros }),
      this.#image('a debug enclave, if PCR3, PCR4 and PCR8 survive', 'debug-populated', {
        ...image,
        pcr8: [ZERO, this.#fresh.pcr8, ...this.#contents(SIGNER_REGISTER)],
      }),
    ];
  }

  /** An attested instance: no PCR keys at all, NitroTPM ones instead. */
  otherPlatform(): Attestation[] {
    const asked = new Set(['nitrotpmpcr4', 'nitrotpmpcr7', 'nitrotpmpcr12', ...this.#values.registers]);
    const names = NITRO_TPM_REGISTERS.filter((name) => asked.has(name));
    const registers = new Map(
      names.map((name) => [
        name,
        [
          ZERO,
          ...new Set([...this.#values.literals(name), ...this.#values.instances(name)]),
          this.#values.fresh(name, 'free'),
        ],
      ]),
    );
    const other = new Map(names.map((name) => [name, [this.#values.fresh(name, 'free'), ZERO]]));
    return [
      { name: 'any instance with NitroTPM', kind: 'any-image', platform: 'nitro-tpm', registers: other },
      { name: 'an instance with NitroTPM', kind: 'other-platform', platform: 'nitro-tpm', registers },
    ];
  }
}
