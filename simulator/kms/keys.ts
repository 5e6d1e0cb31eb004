/** The keys of one simulated KMS. Their material exists in this process's memory and nowhere else. */
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import type { Grant, Policy } from '../../shared/policy/model.ts';
import { KmsException } from './exception.ts';

/** A grant as ListGrants shows it, and as the policy engine reads it. */
export interface StoredGrant {
  readonly entry: Readonly<Record<string, unknown>> & { readonly GrantId: string };
  readonly token: string;
  readonly grant: Grant;
}

export interface SimulatedKey {
  readonly id: string;
  readonly arn: string;
  readonly accountId: string;
  readonly material: Uint8Array;
  readonly materialId: string;
  readonly description: string;
  readonly multiRegion: boolean;
  readonly createdAt: Date;
  /** The text as it was put, which GetKeyPolicy gives back to the byte. */
  policyText: string;
  policy: Policy;
  /** In order of creation. */
  readonly grants: Map<string, StoredGrant>;
}

const MATERIAL_BYTES = 32;

export class KeyStore {
  readonly #region: string;
  readonly #keys = new Map<string, SimulatedKey>();

  constructor(region: string) {
    this.#region = region;
  }

  /** Names a key before it exists: whether its policy may be stored is decided about this ARN. */
  newName(accountId: string, multiRegion: boolean): { readonly id: string; readonly arn: string } {
    const id = multiRegion ? `mrk-${randomBytes(16).toString('hex')}` : randomUUID();
    return this.name(accountId, id);
  }

  name(accountId: string, id: string): { readonly id: string; readonly arn: string } {
    return { id, arn: this.#arn(accountId, id) };
  }

  create(
    made: Pick<
      SimulatedKey,
      'id' | 'arn' | 'accountId' | 'description' | 'multiRegion' | 'createdAt' | 'policyText' | 'policy'
    >,
  ): SimulatedKey {
    const material = new Uint8Array(new ArrayBuffer(MATERIAL_BYTES));
    material.set(randomBytes(MATERIAL_BYTES));
    const materialId = createHash('sha256').update('material id').update(randomBytes(32)).digest('hex');
    const key: SimulatedKey = { ...made, material, materialId, grants: new Map() };
    this.#keys.set(key.id, key);
    return key;
  }

  /**
   * Finds a key by key ARN, or by key id in the caller's own account (KMS developer guide, "Key identifiers").
   * Throws NotFoundException. There are no aliases here.
   */
  find(identifier: string, callerAccountId: string): SimulatedKey {
    if (identifier.startsWith('alias/') || identifier.includes(':alias/')) {
      throw notFound(`Alias ${identifier} is not found.`);
    }
    const arn = identifier.startsWith('arn:') ? identifier : this.#arn(callerAccountId, identifier);
    const key = this.#keys.get(arn.slice(arn.lastIndexOf('/') + 1));
    if (key === undefined || key.arn !== arn) throw notFound(`Key '${arn}' does not exist`);
    return key;
  }

  /** Finds the key that a ciphertext blob names. */
  ofBlob(keyId: string): SimulatedKey | undefined {
    return this.#keys.get(keyId);
  }

  grantTokenExists(token: string): boolean {
    return [...this.#keys.values()].some((key) =>
      [...key.grants.values()].some((grant) => grant.token === token && token !== ''),
    );
  }

  wipe(): void {
    for (const key of this.#keys.values()) key.material.fill(0);
    this.#keys.clear();
  }

  #arn(accountId: string, id: string): string {
    return `arn:aws:kms:${this.#region}:${accountId}:key/${id}`;
  }
}

function notFound(message: string): KmsException {
  return new KmsException('NotFoundException', message);
}
