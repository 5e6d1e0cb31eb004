/**
 * A virtio vsock device without anybody behind it: it gives the guest a context id, and never looks at a packet.
 * What the guest sends to its own context id, Linux takes to the loopback transport (net/vmw_vsock/af_vsock.c,
 * vsock_use_local_transport), so both ends of a conversation with it can be in the guest.
 *
 * QEMU asks for it over a UNIX socket, by the vhost-user protocol (QEMU docs/interop/vhost-user.rst). A message
 * is a request number, flags and a size, u32 each in the machine's order, and a payload. Descriptors come beside
 * some of them: memory and queues, which this device does not use.
 */
import { createServer, type Server } from 'node:net';

const HEADER_BYTES = 12;
const GET_FEATURES = 1;
const GET_VRING_BASE = 11;
const GET_PROTOCOL_FEATURES = 15;
const GET_CONFIG = 24;
/** Protocol version 1, and "this is an answer". */
const ANSWER_FLAGS = 1 | 4;
/** VIRTIO_F_VERSION_1, VHOST_USER_F_PROTOCOL_FEATURES. */
const FEATURES = (1n << 32n) | (1n << 30n);
/** VHOST_USER_PROTOCOL_F_CONFIG. */
const PROTOCOL_FEATURES = 1n << 9n;
/** GET_CONFIG's payload begins with offset, size and flags; struct virtio_vsock_config follows: guest_cid u64. */
const CONFIG_OFFSET = 12;

export function serveVsockDevice(contextId: number): Server {
  return createServer((connection) => {
    connection.on('error', () => {});
    let held = Buffer.alloc(0);
    connection.on('data', (piece: Buffer) => {
      held = Buffer.concat([held, piece]);
      while (held.length >= HEADER_BYTES) {
        const end = HEADER_BYTES + held.readUInt32LE(8);
        if (held.length < end) return;
        const request = held.readUInt32LE(0);
        const answer = answerTo(request, held.subarray(HEADER_BYTES, end), contextId);
        held = held.subarray(end);
        if (answer === undefined) continue;
        const header = Buffer.alloc(HEADER_BYTES);
        header.writeUInt32LE(request, 0);
        header.writeUInt32LE(ANSWER_FLAGS, 4);
        header.writeUInt32LE(answer.length, 8);
        connection.write(Buffer.concat([header, answer]));
      }
    });
  });
}

function answerTo(request: number, payload: Buffer, contextId: number): Buffer | undefined {
  switch (request) {
    case GET_FEATURES:
      return u64(FEATURES);
    case GET_PROTOCOL_FEATURES:
      return u64(PROTOCOL_FEATURES);
    case GET_CONFIG: {
      const answer = Buffer.from(payload);
      answer.writeBigUInt64LE(BigInt(contextId), CONFIG_OFFSET);
      return answer;
    }
    case GET_VRING_BASE:
      return Buffer.from(payload);
    default:
      return undefined;
  }
}

function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}
