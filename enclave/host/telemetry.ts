import type { HttpClient } from '../../link/http-client.ts';
import {
  isTelemetryLine,
  TELEMETRY_MAX_BYTES,
  TELEMETRY_MAX_LINES,
  type TelemetryLine,
} from '../../shared/telemetry.ts';

export interface TelemetryQueue {
  /** Never throws and never waits: lines that do not fit the queue or the allow-list are dropped and counted. */
  send(lines: readonly TelemetryLine[]): void;
  /** Lines dropped so far. */
  readonly dropped: number;
}

/** Sends lines in batches, one at a time; a slow or absent parent costs lines, never memory or time. */
export function telemetryQueue(http: HttpClient): TelemetryQueue {
  let waiting: TelemetryLine[] = [];
  let sending = false;
  let dropped = 0;

  async function drain(): Promise<void> {
    if (sending) return;
    sending = true;
    while (waiting.length > 0) {
      const batch = waiting;
      waiting = [];
      try {
        await post(http, batch);
      } catch {
        dropped += batch.length;
      }
    }
    sending = false;
  }

  return {
    send: (lines) => {
      for (const line of lines) {
        if (waiting.length < TELEMETRY_MAX_LINES && isTelemetryLine(line)) waiting.push(line);
        else dropped += 1;
      }
      void drain();
    },
    get dropped() {
      return dropped;
    },
  };
}

async function post(http: HttpClient, lines: readonly TelemetryLine[]): Promise<void> {
  const body = Buffer.from(JSON.stringify({ lines }));
  if (body.length > TELEMETRY_MAX_BYTES) throw new RangeError('telemetry batch too large');
  await http.exchange({
    method: 'POST',
    path: '/telemetry',
    headers: { 'content-type': 'application/json' },
    body,
    status: 200,
    receive: (sizeBytes) => {
      if (sizeBytes !== 0) throw new RangeError('telemetry has no answer');
      return new Uint8Array(0);
    },
  });
}
