/** KMS for commands that meet keys of several Regions as they go: one client a Region, ended together. */
import { expectWrappable, type KmsKey } from '../owner/kms.ts';
import { type KmsPlace, kmsClient } from './kms-client.ts';

export interface KmsByRegion extends Disposable {
  readonly kmsKey: (keyArn: string) => Promise<KmsKey>;
}

export function kmsByRegion(place: KmsPlace): KmsByRegion {
  const clients = new Map<string, ReturnType<typeof kmsClient>>();
  return {
    async kmsKey(keyArn) {
      expectWrappable([keyArn]);
      const region = keyArn.split(':')[3] ?? '';
      const client = clients.get(region) ?? kmsClient(region, place);
      clients.set(region, client);
      return { keyArn, client: await client };
    },
    [Symbol.dispose]() {
      for (const client of clients.values()) {
        client.then(
          (made) => made.destroy(),
          () => {},
        );
      }
    },
  };
}
