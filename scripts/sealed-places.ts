/** The sealed models that a command is to change, where they lie: in folders, or published in S3. */
import { join } from 'node:path';
import { OwnerError } from '../owner/errors.ts';
import { publishedPlace } from '../owner/key-life/published-place.ts';
import { findSealedModels } from '../owner/key-life/rewrap-all.ts';
import { folderPlace, type SealedPlace } from '../owner/key-life/sealed-place.ts';
import { listPublishedModels } from '../owner/publish/list-models.ts';
import type { CommandIo } from './command.ts';
import { isSafePrefix, parseModelPlace, splitModelPlace } from './model-place.ts';
import { type OwnS3Client, type S3Place, s3Client } from './s3-client.ts';
import { tellLeftover } from './seal-options.ts';

export interface SealedPlaces extends Disposable {
  one(text: string): Promise<SealedPlace>;
  /** None twice. Throws OWNER_MODEL_UNKNOWN if a prefix has none. */
  below(prefixes: readonly string[]): Promise<readonly SealedPlace[]>;
}

export interface PlaceOptions {
  readonly s3: S3Place;
  /** Where recovery wraps of published models lie, as the models lie below the prefix. */
  readonly recoveryFolder: string | undefined;
  readonly lanes: number;
}

export const isPublished = (text: string): boolean => text.startsWith('s3://');

export function sealedPlaces({ s3, recoveryFolder = '', lanes }: PlaceOptions, io: CommandIo): SealedPlaces {
  let own: Promise<OwnS3Client> | undefined;
  const clientOf = async () => {
    own ??= s3Client(s3, lanes);
    return (await own).client;
  };
  const folder = (path: string): SealedPlace =>
    folderPlace(path, (leftover) => void io.stderr.write(tellLeftover(leftover, 'a wrapped key')));
  const published = async (bucket: string, prefix: string, relative: string): Promise<SealedPlace> =>
    publishedPlace(
      { client: await clientOf(), bucket, prefix },
      { recoveryBeside: join(recoveryFolder, relative), signal: io.signal },
    );

  async function publishedBelow(text: string): Promise<readonly SealedPlace[]> {
    const place = parseModelPlace(text);
    if (place.kind !== 's3') throw new TypeError('a place in S3 is needed');
    const { bucket } = place;
    const prefix = text.endsWith('/') && place.prefix !== '' ? `${place.prefix}/` : place.prefix;
    const found = await listPublishedModels(await clientOf(), bucket, prefix, io.signal);
    for (const name of found.filter((model) => !isSafePrefix(model))) {
      io.stderr.write(`left out: ${JSON.stringify(name)} is no name that "strongroom publish" writes\n`);
    }
    const models = found.filter(isSafePrefix);
    if (models.length === 0)
      throw new OwnerError('OWNER_MODEL_UNKNOWN', `There is no sealed model at or below ${text}.`);
    const isFolder = models.every((model) => model.startsWith(`${place.prefix}/`));
    const base = isFolder ? `${place.prefix}/` : place.prefix.slice(0, place.prefix.lastIndexOf('/') + 1);
    return Promise.all(models.map((model) => published(bucket, model, model.slice(base.length))));
  }

  return {
    async one(text) {
      if (!isPublished(text)) return folder(text);
      const { place, model } = splitModelPlace(text);
      if (place.kind !== 's3') throw new TypeError('a place in S3 is needed');
      const name = `${model}.sealed`;
      return published(place.bucket, place.prefix === '' ? name : `${place.prefix}/${name}`, name);
    },
    async below(prefixes) {
      const folders = await findSealedModels(prefixes.filter((text) => !isPublished(text)));
      const places: SealedPlace[] = folders.map(folder);
      for (const text of prefixes.filter(isPublished)) places.push(...(await publishedBelow(text)));
      return [...new Map(places.map((place) => [place.name, place])).values()];
    },
    [Symbol.dispose]() {
      own?.then(
        (made) => made[Symbol.dispose](),
        () => {},
      );
    },
  };
}
