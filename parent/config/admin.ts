import type { JsonValue } from '../../shared/json.ts';
import { isLoopbackAddress } from '../loopback.ts';
import type { Reader } from './reader.ts';

/** Where health and metrics are served (docs/link.md section 7). */
export interface AdminConfig {
  /** A loopback address: whoever may see the metrics is on this host, or was let in by its operator. */
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
}

export function parseAdmin(reader: Reader, value: JsonValue | undefined): AdminConfig {
  const admin = reader.members(value, ['admin'], { required: ['port'], optional: ['host'] });
  const host = reader.text(admin.host ?? '127.0.0.1', ['admin', 'host']);
  if (!isLoopbackAddress(host)) {
    throw reader.wrong(['admin', 'host'], 'a loopback address such as 127.0.0.1 or ::1', host);
  }
  return { host, port: reader.integer(admin.port, ['admin', 'port'], 0, 65_535) };
}
