import { LinkError } from '../../link/errors.ts';
import type { HttpClient } from '../../link/http-client.ts';
import type { PayloadSource } from '../../shared/sealed-model/source.ts';
import { HostError } from './errors.ts';

/** A payload behind `path`: each read is one Range request whose bytes go straight into the target. */
export function payloadOverHttp(http: HttpClient, path: string, sizeBytes: number): PayloadSource {
  return {
    sizeBytes,
    read: async (offsetBytes, target) => {
      if (target.length === 0) return;
      const last = offsetBytes + target.length - 1;
      if (!Number.isSafeInteger(offsetBytes) || offsetBytes < 0 || last >= sizeBytes) {
        throw new HostError(
          'HOST_RANGE_OUTSIDE',
          `Expected a range inside ${sizeBytes} bytes, found ${offsetBytes} to ${last}.`,
        );
      }
      await http.exchange({
        method: 'GET',
        path,
        headers: { range: `bytes=${offsetBytes}-${last}` },
        status: 206,
        receive: (_announced, contentRange) => {
          const expected = `bytes ${offsetBytes}-${last}/${sizeBytes}`;
          if (contentRange !== expected) {
            throw new LinkError(
              'LINK_ANSWER_MALFORMED',
              `GET ${path}: expected Content-Range "${expected}", found ${describe(contentRange)}.`,
            );
          }
          return target;
        },
      });
    },
  };
}

function describe(header: string | undefined): string {
  return header === undefined ? 'none' : JSON.stringify(header.slice(0, 80));
}
