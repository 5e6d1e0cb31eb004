import { resolve } from 'node:path';
import type { JsonValue } from '../../shared/json.ts';
import type { Reader } from './reader.ts';

export type LinkConfig =
  | { readonly kind: 'unix'; readonly dial: string; readonly listen: string }
  | { readonly kind: 'vsock'; readonly enclaveCid: number };

export function parseLink(reader: Reader, value: JsonValue | undefined, folder: string): LinkConfig {
  const kind = reader.kind(value, ['link']);
  if (kind === 'unix') {
    const link = reader.members(value, ['link'], { required: ['kind', 'dial', 'listen'] });
    return {
      kind,
      dial: resolve(folder, reader.text(link.dial, ['link', 'dial'])),
      listen: resolve(folder, reader.text(link.listen, ['link', 'listen'])),
    };
  }
  if (kind === 'vsock') {
    const link = reader.members(value, ['link'], { required: ['kind', 'enclaveCid'] });
    // 0 to 3 are the hypervisor, this machine, the host and the parent itself (nitro-cli refuses them too).
    return { kind, enclaveCid: reader.integer(link.enclaveCid, ['link', 'enclaveCid'], 4, 0xffff_fffe) };
  }
  throw reader.wrong(['link', 'kind'], '"unix" or "vsock"', kind);
}
