import { isIP } from 'node:net';
import type { JsonValue } from '../../shared/json.ts';
import { type Destination, isDnsName } from '../egress/allow-list.ts';
import { HOST_SERVICE_LIMITS } from '../host-service.ts';
import type { Path, Reader } from './reader.ts';

const DESTINATIONS_MAX = 256;
/** A tunnel is one of the host service's connections, and the enclave's other requests take up to 16 (docs/link.md 3). */
const TUNNELS_MAX = HOST_SERVICE_LIMITS.maxConnections - 16;

export function parseEgress(reader: Reader, value: JsonValue | undefined): readonly Destination[] {
  if (!Array.isArray(value) || value.length > DESTINATIONS_MAX) {
    throw reader.wrong(['egress'], `a list of at most ${DESTINATIONS_MAX}`, value);
  }
  const seen = new Set<string>();
  return value.map((entry: JsonValue, index) => {
    const destination = parseDestination(reader, entry, ['egress', index]);
    const key = `${destination.host}:${destination.port}`;
    if (seen.has(key)) throw reader.wrong(['egress', index], 'each destination once', key);
    seen.add(key);
    return destination;
  });
}

function parseDestination(reader: Reader, value: JsonValue, at: Path): Destination {
  const entry = reader.members(value, at, {
    required: ['host', 'port'],
    optional: ['maxConnections', 'override'],
  });
  const host = reader.text(entry.host, [...at, 'host']);
  if (!isDnsName(host)) throw reader.wrong([...at, 'host'], 'a lower-case DNS name, no address', host);
  const destination = {
    host,
    port: reader.integer(entry.port, [...at, 'port'], 1, 65_535),
    maxConnections: reader.integer(entry.maxConnections ?? 64, [...at, 'maxConnections'], 1, TUNNELS_MAX),
  };
  if (entry.override === undefined) return destination;
  const overrideAt = [...at, 'override'];
  const override = reader.members(entry.override, overrideAt, { required: ['address', 'port'] });
  const address = reader.text(override.address, [...overrideAt, 'address']);
  if (isIP(address) === 0) throw reader.wrong([...overrideAt, 'address'], 'an IP address', address);
  const port = reader.integer(override.port, [...overrideAt, 'port'], 1, 65_535);
  return { ...destination, override: { address, port } };
}
