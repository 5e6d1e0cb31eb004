/**
 * What S3 and a registry have in common: a file is looked at once and then read by ranges of that very version,
 * within deadlines, tried again a few times, and continued where a connection broke off.
 */
import type { Readable } from 'node:stream';
import type { ByteRange } from '../routes/range.ts';
import { failureOfConnection, malformed, unavailable } from './failure.ts';
import { mayPass, type Patience, persist, type RemoteLimits } from './patience.ts';
import type { ModelStore, StoredFile } from './store.ts';

/** One version of a file: what every later answer is held against. */
export interface Version {
  readonly sizeBytes: number;
  readonly etag?: string | undefined;
  readonly lastModified?: string | undefined;
}

/** One way to ask a store. Failures are ModelStoreError or whatever the connection threw. */
export interface Remote {
  /** Undefined if there is no such file. */
  look(path: string, signal: AbortSignal): Promise<Version | undefined>;
  /** Resolves to the body once the headers promise exactly this range of exactly this version. */
  fetch(path: string, version: Version, range: ByteRange, signal: AbortSignal): Promise<Readable>;
  close(): void;
}

const VERSIONS_MAX = 256;

export function remoteStore(remote: Remote, limits: RemoteLimits): ModelStore {
  // Reads of a payload are held against the version that was seen first, so that no enclave opens a mix of two.
  // An enclave begins with the head, and from then on the payload is another one.
  const payloads = new Map<string, Version>();

  return {
    open: async (model, file, signal) => {
      const path = `${model}.sealed/${file}`;
      const patience: Patience = { ...limits, signal, answerBy: performance.now() + limits.answerTimeoutMs };
      if (file === 'head') payloads.delete(model);
      let version = file === 'payload' ? payloads.get(model) : undefined;
      version ??= await persist((attempt) => remote.look(path, attempt), patience);
      if (version === undefined) return undefined;
      if (file === 'payload') {
        if (payloads.size >= VERSIONS_MAX) payloads.clear();
        payloads.set(model, version);
      }
      const seen = version;
      const fetch: Fetch = (range, within) =>
        persist((attempt) => remote.fetch(path, seen, range, attempt), within);
      return remoteFile(seen.sizeBytes, fetch, patience);
    },
    close: () => remote.close(),
  };
}

type Fetch = (range: ByteRange, patience: Patience) => Promise<Readable>;

function remoteFile(sizeBytes: number, fetch: Fetch, patience: Patience): StoredFile {
  let body: Readable | undefined;

  async function* bytesOf(range: ByteRange): AsyncGenerator<Uint8Array> {
    let at = range.first;
    for (let attempt = 1; body !== undefined; attempt += 1) {
      try {
        for await (const chunk of untilSilent(body, patience.idleTimeoutMs)) {
          at += chunk.length;
          if (at > range.last + 1) throw malformed('too-long', 'More bytes came than were announced.');
          yield chunk;
        }
        if (at > range.last) return;
        throw unavailable('cut', 'The answer ended early.');
      } catch (error) {
        patience.signal.throwIfAborted();
        if (at > range.last) return;
        const failure = failureOfConnection(error);
        if (!mayPass(failure) || attempt >= patience.attempts) throw failure;
      } finally {
        body.destroy();
      }
      const answerBy = performance.now() + patience.answerTimeoutMs;
      body = await fetch({ first: at, last: range.last }, { ...patience, answerBy });
    }
  }

  return {
    sizeBytes,
    read: async (range) => {
      body = await fetch(range, patience);
      return bytesOf(range);
    },
    [Symbol.asyncDispose]: async () => {
      body?.destroy();
    },
  };
}

/** The chunks of a body. Somebody who is slow to take them makes no silence. */
async function* untilSilent(body: Readable, idleTimeoutMs: number): AsyncGenerator<Uint8Array> {
  const chunks = body[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  for (;;) {
    const silence = setTimeout(
      () => body.destroy(unavailable('timeout', `Silence of ${idleTimeoutMs} ms in an answer.`)),
      idleTimeoutMs,
    );
    const next = await chunks.next().finally(() => clearTimeout(silence));
    if (next.done === true) return;
    yield next.value;
  }
}
