/** Places of sealed models as arguments: `s3://BUCKET/PREFIX`, `https://HOST/BASE`, or a folder. */
import { CommandError } from './errors.ts';

export type ModelPlace =
  | { readonly kind: 's3'; readonly bucket: string; readonly prefix: string }
  | { readonly kind: 'registry'; readonly url: string }
  | { readonly kind: 'folder'; readonly path: string };

/** Amazon S3 User Guide, "General purpose bucket naming rules". */
const BUCKET = /^(?=.{3,63}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;
/** The characters that S3 calls safe, in parts that no client takes for "here" or "above". */
const PREFIX =
  /^(?=.{0,512}$)([A-Za-z0-9!_'()*=-][A-Za-z0-9!_.'()*=-]*(\/[A-Za-z0-9!_'()*=-][A-Za-z0-9!_.'()*=-]*)*)?$/;
export const isSafePrefix = (text: string): boolean => PREFIX.test(text);

const URL_PATH = /^(\/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$/;

/** Closing slashes do not count. Throws CommandError USAGE. */
export function parseModelPlace(text: string): ModelPlace {
  const bare = text.replace(/(?<=.)\/+$/, '');
  const s3 = /^s3:\/\/([^/]*)(?:\/(.*))?$/.exec(bare);
  if (s3 !== null) {
    const [, bucket = '', prefix = ''] = s3;
    expectBucket(bucket);
    if (PREFIX.test(prefix)) return { kind: 's3', bucket, prefix };
    throw wrong(text, 'a prefix of safe characters between single slashes');
  }
  if (/^https:/i.test(bare)) {
    const url = URL.canParse(bare) ? new URL(bare) : undefined;
    if (url !== undefined && `https://${url.host}${url.pathname.replace(/\/$/, '')}` === bare) {
      if (URL_PATH.test(url.pathname.replace(/\/$/, ''))) return { kind: 'registry', url: bare };
    }
    throw wrong(text, 'https://HOST[:PORT]/PATH in plain characters');
  }
  if (/^[a-z0-9]+:\/\//i.test(bare)) throw wrong(text, 's3://, https:// or a folder');
  return { kind: 'folder', path: bare };
}

export function expectBucket(bucket: string): void {
  if (!BUCKET.test(bucket)) throw wrong(bucket, 'the name of a general purpose bucket');
}

/** `…/NAME.sealed` taken apart: what stands before it, and NAME. Throws CommandError USAGE. */
export function splitModelPlace(text: string): { readonly place: ModelPlace; readonly model: string } {
  const bare = text.replace(/(?<=.)\/+$/, '');
  const cut = bare.lastIndexOf('/');
  const model = /^([A-Za-z0-9][A-Za-z0-9._-]{0,63})\.sealed$/.exec(bare.slice(cut + 1))?.[1];
  if (model === undefined) throw wrong(text, 'a place that ends in NAME.sealed');
  return { place: parseModelPlace(cut < 0 ? '.' : cut === 0 ? '/' : bare.slice(0, cut)), model };
}

function wrong(found: string, expected: string): CommandError {
  return new CommandError('USAGE', `Expected ${expected}, found ${JSON.stringify(found)}.`);
}
