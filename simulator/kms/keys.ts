/**
 * The keys of one simulated KMS. Their material exists in this process's memory and nowhere else. A key that is
 * rotated gets new material; what the older ones sealed still opens (KMS developer guide, "Rotate AWS KMS keys").
 */
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import type { Grant, Policy } from '../../shared/policy/model.ts';
import { Aliases } from './aliases.ts';
import type { BlobMaterial } from './ciphertext-blob.ts';
import { invalidCiphertext, KmsException } from './exception.ts';

/** A grant as ListGrants shows it, and as the policy engine reads it. */
export interface StoredGrant {
  readonly entry: Readonly<Record<string, unknown>> & { readonly GrantId: string };
  readonly token: string;
  readonly grant: Grant;
}

export type RotationType = 'AUTOMATIC' | 'ON_DEMAND';

export interface KeyMaterial extends BlobMaterial {
  /** Absent for a key's first material. */
  readonly rotated?: { readonly at: Date; readonly type: RotationType };
}

export interface SimulatedKey {
  readonly id: string;
  readonly arn: string;
  readonly accountId: string;
  /** Oldest first; the last one seals. */
  readonly materials: KeyMaterial[];
  readonly description: string;
  readonly multiRegion: boolean;
  readonly createdAt: Date;
  /** The text as it was put, which GetKeyPolicy gives back to the byte. */
  policyText: string;
  policy: Policy;
  /** In order of creation. */
  readonly grants: Map<string, StoredGrant>;
  /** Automatic rotation, where it is enabled. */
  rotation: { readonly periodDays: number; readonly next: Date } | undefined;
}

const MATERIAL_BYTES = 32;
const DAY_MS = 86_400_000;

export class KeyStore {
  readonly aliases = new Aliases();
  readonly #region: string;
  readonly #keys = new Map<string, SimulatedKey>();
  readonly #onRotated: (key: SimulatedKey, type: RotationType, at: Date) => void;

  constructor(region: string, onRotated: (key: SimulatedKey, type: RotationType, at: Date) => void) {
    this.#region = region;
    this.#onRotated = onRotated;
  }

  /** Names a key before it exists: whether its policy may be stored is decided about this ARN. */
  newName(accountId: string, multiRegion: boolean): { readonly id: string; readonly arn: string } {
    const id = multiRegion ? `mrk-${randomBytes(16).toString('hex')}` : randomUUID();
    return this.name(accountId, id);
  }

  name(accountId: string, id: string): { readonly id: string; readonly arn: string } {
    return { id, arn: `${this.#prefix(accountId)}:key/${id}` };
  }

  aliasArn(accountId: string, name: string): string {
    return `${this.#prefix(accountId)}:${name}`;
  }

  create(
    made: Pick<
      SimulatedKey,
      'id' | 'arn' | 'accountId' | 'description' | 'multiRegion' | 'createdAt' | 'policyText' | 'policy'
    >,
  ): SimulatedKey {
    const key: SimulatedKey = { ...made, materials: [newMaterial()], grants: new Map(), rotation: undefined };
    this.#keys.set(key.id, key);
    return key;
  }

  /**
   * Finds a key by key ARN, or by key id in the caller's own account; where `aliases` says so, by alias name or
   * alias ARN as well (KMS developer guide, "Key identifiers"). Throws NotFoundException.
   */
  find(
    identifier: string,
    callerAccountId: string,
    { aliases }: { readonly aliases: boolean },
  ): SimulatedKey {
    const alias = this.#aliasOf(identifier, callerAccountId);
    if (alias !== undefined) {
      if (!aliases) throw notFound(`Invalid keyId ${identifier}`);
      const target = this.aliases.get(alias)?.targetKeyId;
      const found = target === undefined ? undefined : this.#keys.get(target);
      if (found === undefined) throw notFound(`Alias ${alias} is not found.`);
      return found;
    }
    const arn = identifier.startsWith('arn:') ? identifier : this.name(callerAccountId, identifier).arn;
    const key = this.#keys.get(arn.slice(arn.lastIndexOf('/') + 1));
    if (key === undefined || key.arn !== arn) throw notFound(`Key '${arn}' does not exist`);
    return key;
  }

  /** Finds the key that a ciphertext blob names. */
  ofBlob(keyId: string): SimulatedKey | undefined {
    return this.#keys.get(keyId);
  }

  /** Gives the key new material, which seals from now on. */
  rotate(key: SimulatedKey, type: RotationType, at: Date): void {
    key.materials.push({ ...newMaterial(), rotated: { at, type } });
    this.#onRotated(key, type, at);
  }

  /** Carries out the automatic rotations that are due by now. */
  rotateDue(now: Date): void {
    for (const key of this.#keys.values()) {
      while (key.rotation !== undefined && key.rotation.next.getTime() <= now.getTime()) {
        const { periodDays, next } = key.rotation;
        this.rotate(key, 'AUTOMATIC', next);
        key.rotation = { periodDays, next: daysAfter(next, periodDays) };
      }
    }
  }

  grantTokenExists(token: string): boolean {
    return [...this.#keys.values()].some((key) =>
      [...key.grants.values()].some((grant) => grant.token === token && token !== ''),
    );
  }

  wipe(): void {
    for (const { materials } of this.#keys.values()) for (const { bytes } of materials) bytes.fill(0);
    this.#keys.clear();
  }

  /** The ARN of the alias that an identifier names; undefined if it names none. */
  #aliasOf(identifier: string, callerAccountId: string): string | undefined {
    if (identifier.startsWith('alias/')) return this.aliasArn(callerAccountId, identifier);
    return identifier.includes(':alias/') ? identifier : undefined;
  }

  #prefix(accountId: string): string {
    return `arn:aws:kms:${this.#region}:${accountId}`;
  }
}

export function currentMaterial({ materials }: SimulatedKey): KeyMaterial {
  return materials.at(-1) as KeyMaterial;
}

/** Throws InvalidCiphertextException if the key never had it. */
export function materialNamed({ materials }: SimulatedKey, materialId: string): KeyMaterial {
  const found = materials.find(({ id }) => id === materialId);
  if (found === undefined)
    throw invalidCiphertext('The ciphertext names a key material that its key never had.');
  return found;
}

export function daysAfter(date: Date, days: number): Date {
  return new Date(date.getTime() + days * DAY_MS);
}

function newMaterial(): KeyMaterial {
  const bytes = new Uint8Array(new ArrayBuffer(MATERIAL_BYTES));
  bytes.set(randomBytes(MATERIAL_BYTES));
  return { id: createHash('sha256').update('material id').update(randomBytes(32)).digest('hex'), bytes };
}

function notFound(message: string): KmsException {
  return new KmsException('NotFoundException', message);
}
