/** Other names for keys, unique in their account and Region (KMS developer guide, "Aliases in AWS KMS"). */

export interface Alias {
  /** Begins with `alias/`. */
  readonly name: string;
  readonly arn: string;
  readonly accountId: string;
  readonly createdAt: Date;
  targetKeyId: string;
  updatedAt: Date;
}

export class Aliases {
  readonly #byArn = new Map<string, Alias>();

  get(arn: string): Alias | undefined {
    return this.#byArn.get(arn);
  }

  add(alias: Alias): void {
    this.#byArn.set(alias.arn, alias);
  }

  delete(arn: string): void {
    this.#byArn.delete(arn);
  }

  /** By name. */
  ofAccount(accountId: string): readonly Alias[] {
    return [...this.#byArn.values()]
      .filter((alias) => alias.accountId === accountId)
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  ofKey(keyId: string): readonly Alias[] {
    return [...this.#byArn.values()].filter(({ targetKeyId }) => targetKeyId === keyId);
  }
}
