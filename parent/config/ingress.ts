import { isIP } from 'node:net';
import type { JsonValue } from '../../shared/json.ts';
import type { IngressConfig } from '../relay.ts';
import type { Reader } from './reader.ts';

export function parseIngress(reader: Reader, value: JsonValue | undefined): IngressConfig {
  const at = ['ingress'];
  const ingress = reader.members(value, at, {
    required: ['host', 'port'],
    optional: ['maxConnections', 'maxConnectionsPerAddress', 'idleTimeoutMs', 'connectTimeoutMs'],
  });
  const host = reader.text(ingress.host, [...at, 'host']);
  if (isIP(host) === 0) throw reader.wrong([...at, 'host'], 'an IP address to listen on', host);
  const maxConnections = reader.integer(
    ingress.maxConnections ?? 1_024,
    [...at, 'maxConnections'],
    1,
    65_536,
  );
  return {
    host,
    port: reader.integer(ingress.port, [...at, 'port'], 0, 65_535),
    maxConnections,
    maxConnectionsPerAddress: reader.integer(
      ingress.maxConnectionsPerAddress ?? maxConnections,
      [...at, 'maxConnectionsPerAddress'],
      1,
      65_536,
    ),
    idleTimeoutMs: reader.integer(
      ingress.idleTimeoutMs ?? 300_000,
      [...at, 'idleTimeoutMs'],
      100,
      86_400_000,
    ),
    connectTimeoutMs: reader.integer(
      ingress.connectTimeoutMs ?? 5_000,
      [...at, 'connectTimeoutMs'],
      10,
      60_000,
    ),
  };
}
