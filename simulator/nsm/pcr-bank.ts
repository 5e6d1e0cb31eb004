/**
 * The measurement registers of one simulated enclave: 32 of 48 bytes. The hypervisor sets and locks 0 to 15
 * before the enclave starts; the enclave may extend 16 to 31 and lock them. Nothing ever unlocks a register
 * or sets one back, so the bank must outlive every process that runs in the enclave.
 *
 * Rules: aws-nitro-enclaves-nsm-api nsm-test/src/bin/nsm-check.rs; error names as in QEMU's
 * hw/virtio/virtio-nsm.c.
 */
import type { NsmErrorName } from '../../shared/nsm/response.ts';
import { extendPcr, PCR_BYTES, PCR_COUNT, zeroPcr } from '../../shared/pcr.ts';

/** Registers below this one belong to the hypervisor and are locked from the start. */
const FIRST_GUEST_PCR = 16;

/** A request that the device answers with an error name. */
export class NsmFault extends Error {
  readonly fault: NsmErrorName;

  constructor(fault: NsmErrorName, message: string) {
    super(message);
    this.name = 'NsmFault';
    this.fault = fault;
  }
}

interface Register {
  value: Uint8Array;
  locked: boolean;
}

export class PcrBank {
  readonly #registers: readonly Register[];

  /** `initial`: values of 48 bytes for registers 0 to 15; the ones that are not named are zero. */
  constructor(initial: ReadonlyMap<number, Uint8Array>) {
    for (const [index, value] of initial) {
      if (!Number.isInteger(index) || index < 0 || index >= FIRST_GUEST_PCR || value.length !== PCR_BYTES) {
        throw new RangeError(
          `A bank starts with registers 0 to 15 of ${PCR_BYTES} bytes, found register ${index} with ${value.length} bytes.`,
        );
      }
    }
    this.#registers = Array.from({ length: PCR_COUNT }, (_, index) => ({
      value: Uint8Array.from(initial.get(index) ?? zeroPcr()),
      locked: index < FIRST_GUEST_PCR,
    }));
  }

  describe(index: number): { lock: boolean; data: Uint8Array } {
    const register = this.#at(index);
    return { lock: register.locked, data: register.value.slice() };
  }

  /** Returns the new value. ReadOnlyIndex when the register is locked. */
  extend(index: number, data: Uint8Array): Uint8Array {
    const register = this.#unlocked(index);
    register.value = extendPcr(register.value, data);
    return register.value.slice();
  }

  /** ReadOnlyIndex when the register is locked already. */
  lock(index: number): void {
    this.#unlocked(index).locked = true;
  }

  /** Locks registers 0 up to but not including `range`, locked ones among them or not. */
  lockRange(range: number): void {
    if (range > PCR_COUNT) {
      throw new NsmFault('InvalidIndex', `LockPCRs takes a range of at most ${PCR_COUNT}, found ${range}.`);
    }
    for (const register of this.#registers.slice(0, range)) register.locked = true;
  }

  /** Locked registers in ascending order: what an attestation document lists. */
  locked(): Map<number, Uint8Array> {
    return new Map(
      this.#registers.flatMap(({ value, locked }, index) =>
        locked ? [[index, value.slice()] as const] : [],
      ),
    );
  }

  #at(index: number): Register {
    const register = this.#registers[index];
    if (register === undefined) {
      throw new NsmFault('InvalidIndex', `Registers are 0 to ${PCR_COUNT - 1}, found ${index}.`);
    }
    return register;
  }

  #unlocked(index: number): Register {
    const register = this.#at(index);
    if (register.locked) throw new NsmFault('ReadOnlyIndex', `Register ${index} is locked.`);
    return register;
  }
}
