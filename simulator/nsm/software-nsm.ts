/**
 * The software NSM: answers the requests of /dev/nsm with the bytes that the real device would send, keeps a
 * live PCR bank, and signs attestation documents under a simulated CA (docs/simulation.md). One instance is
 * one enclave: it outlives the processes that run inside.
 *
 * Message shapes: aws-nitro-enclaves-nsm-api src/api/mod.rs. Answers to odd requests: QEMU
 * hw/virtio/virtio-nsm.c.
 */
import { randomBytes } from 'node:crypto';
import { decodeNsmRequest, encodeNsmResponse } from '../../shared/nsm/device-side.ts';
import { NSM_REQUEST_MAX_BYTES, type NsmRequest } from '../../shared/nsm/request.ts';
import type { NsmResponse } from '../../shared/nsm/response.ts';
import { PCR_COUNT, pcrOfText, zeroPcr } from '../../shared/pcr.ts';
import type { IssuedLeaf, SimulatedCa } from './ca.ts';
import { type PayloadMap, writeAttestationDocument } from './document.ts';
import { instanceIdOf } from './identity.ts';
import { NsmFault, PcrBank } from './pcr-bank.ts';

/** AWS writes 512 and its hardware accepts 1024 for each of the three fields of an attestation request. */
const FIELD_MAX_BYTES = 1024;
const RANDOM_BYTES = 256;
const RENEW_LEAF_BEFORE_EXPIRY_MS = 10 * 60 * 1000;

export interface SoftwareNsmOptions {
  readonly ca: SimulatedCa;
  /** `i-<17 hex>-enc<16 hex>`; see newModuleId(). */
  readonly moduleId: string;
  /** What the hypervisor measured. PCR4 is computed from the instance id; what is not named is zero. */
  readonly pcrs: {
    readonly 0: Uint8Array;
    readonly 1: Uint8Array;
    readonly 2: Uint8Array;
    readonly 3?: Uint8Array;
    readonly 8?: Uint8Array;
  };
  readonly now: () => Date;
  /** In debug mode the hypervisor leaves PCR0 to PCR2 zero, and those alone. */
  readonly debug?: boolean;
  /** Default: indefinite, as hardware writes today. */
  readonly payloadMap?: PayloadMap;
}

export class SoftwareNsm {
  readonly moduleId: string;
  readonly #options: SoftwareNsmOptions;
  readonly #instanceId: string;
  readonly #bank: PcrBank;
  #leaf: IssuedLeaf;
  #lastAnswer: Promise<unknown> = Promise.resolve();

  private constructor(options: SoftwareNsmOptions, instanceId: string, leaf: IssuedLeaf) {
    const { pcrs, debug = false } = options;
    this.moduleId = options.moduleId;
    this.#options = options;
    this.#instanceId = instanceId;
    this.#leaf = leaf;
    this.#bank = new PcrBank(
      new Map([
        [0, debug ? zeroPcr() : pcrs[0]],
        [1, debug ? zeroPcr() : pcrs[1]],
        [2, debug ? zeroPcr() : pcrs[2]],
        [3, pcrs[3] ?? zeroPcr()],
        [4, pcrOfText(instanceId)],
        [8, pcrs[8] ?? zeroPcr()],
      ]),
    );
  }

  static async create(options: SoftwareNsmOptions): Promise<SoftwareNsm> {
    const instanceId = instanceIdOf(options.moduleId);
    const leaf = await options.ca.issueLeaf({ instanceId, moduleId: options.moduleId }, options.now());
    return new SoftwareNsm(options, instanceId, leaf);
  }

  /** Answers one request; never rejects. Requests are served one after the other, as the device does. */
  handle(request: Uint8Array): Promise<Uint8Array> {
    const answer = this.#lastAnswer.then(async () => encodeNsmResponse(await this.#answer(request)));
    this.#lastAnswer = answer;
    return answer;
  }

  async #answer(bytes: Uint8Array): Promise<NsmResponse> {
    if (bytes.length > NSM_REQUEST_MAX_BYTES) return { kind: 'Error', error: 'InputTooLarge' };
    let request: NsmRequest;
    try {
      request = decodeNsmRequest(bytes);
    } catch {
      return { kind: 'Error', error: 'InvalidOperation' };
    }
    try {
      return await this.#serve(request);
    } catch (error) {
      return { kind: 'Error', error: error instanceof NsmFault ? error.fault : 'InternalError' };
    }
  }

  async #serve(request: NsmRequest): Promise<NsmResponse> {
    switch (request.kind) {
      case 'DescribeNSM':
        return {
          kind: 'DescribeNSM',
          versionMajor: 1,
          versionMinor: 0,
          versionPatch: 0,
          moduleId: this.moduleId,
          maxPcrs: PCR_COUNT,
          lockedPcrs: [...this.#bank.locked().keys()],
          digest: 'SHA384',
        };
      case 'GetRandom':
        return { kind: 'GetRandom', random: randomBytes(RANDOM_BYTES) };
      case 'DescribePCR':
        return { kind: 'DescribePCR', ...this.#bank.describe(request.index) };
      case 'ExtendPCR':
        return { kind: 'ExtendPCR', data: this.#bank.extend(request.index, request.data) };
      case 'LockPCR':
        this.#bank.lock(request.index);
        return { kind: 'LockPCR' };
      case 'LockPCRs':
        this.#bank.lockRange(request.range);
        return { kind: 'LockPCRs' };
      case 'Attestation':
        return { kind: 'Attestation', document: await this.#attest(request) };
    }
  }

  async #attest(request: NsmRequest & { kind: 'Attestation' }): Promise<Uint8Array> {
    const { userData, nonce, publicKey } = request;
    for (const field of [userData, nonce, publicKey]) {
      if (field !== null && field.length > FIELD_MAX_BYTES) {
        throw new NsmFault(
          'InputTooLarge',
          `A field holds at most ${FIELD_MAX_BYTES} bytes, found ${field.length}.`,
        );
      }
    }
    const at = this.#options.now();
    const { certificate, cabundle, privateKey } = await this.#leafAt(at);
    return writeAttestationDocument(
      {
        moduleId: this.moduleId,
        timestampMs: at.getTime(),
        pcrs: this.#bank.locked(),
        certificate,
        cabundle,
        publicKey,
        userData,
        nonce,
      },
      this.#options.payloadMap ?? 'indefinite',
      privateKey,
    );
  }

  /** One leaf signs many documents, as on hardware, until it nears its end. */
  async #leafAt(at: Date): Promise<IssuedLeaf> {
    const renewAtMs = this.#leaf.notAfter.getTime() - RENEW_LEAF_BEFORE_EXPIRY_MS;
    if (at < this.#leaf.notBefore || at.getTime() > renewAtMs) {
      this.#leaf = await this.#options.ca.issueLeaf(
        { instanceId: this.#instanceId, moduleId: this.moduleId },
        at,
      );
    }
    return this.#leaf;
  }
}
