/**
 * How fast a trail of several files is reviewed, beside JSON.parse of the same records one by one in the same run: that
 * is what reading them cannot cost less than. Memory, of all threads together, is measured while it reads.
 */

import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { reviewTrail } from '../../review/trail/read.ts';
import { pcrOfText } from '../../shared/pcr.ts';
import type { Bench } from './main.ts';

const HOST = 'arn:aws:iam::111122223333:role/EnclaveHost';
const KEY = 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab';
const fill = (byte: number) => Buffer.alloc(48, byte).toString('base64');
/** Reading, cutting out, counting members and judging, besides parsing. */
const RATIO_BAR = 4;
const MEMORY_BAR_BYTES = 256 << 20;
const FILES = 8;

export const bench: Bench = {
  name: 'trail',
  async run(args) {
    const events = Number(args[0] ?? '1000000');
    if (!Number.isSafeInteger(events) || events < 1000) {
      process.stderr.write('Usage: npm run bench -- trail [EVENTS]    at least 1000; default 1000000\n');
      return 2;
    }
    const folder = await mkdtemp(join(tmpdir(), 'strongroom-bench-trail-'));
    try {
      return await measure(folder, events);
    } finally {
      await rm(folder, { recursive: true });
    }
  },
};

async function measure(folder: string, events: number): Promise<number> {
  const paths = Array.from({ length: FILES }, (_, file) => join(folder, `${file}.jsonl`));
  let sizeBytes = 0;
  for (const [file, path] of paths.entries()) {
    const from = Math.floor((file * events) / FILES);
    sizeBytes += await writeTrail(path, from, Math.floor(((file + 1) * events) / FILES));
  }
  const parsed = await spent(async () => {
    for (const path of paths) await parseOnly(path);
  });
  const before = process.memoryUsage.rss();
  let peakBytes = 0;
  const reviewed = await spent(async () => {
    const expected = {
      keys: [KEY],
      releases: undefined,
      hostRoleArns: [HOST],
      sealerArns: [],
      administratorArns: [],
    };
    const report = await reviewTrail([folder], expected, {
      failOn: 'low',
      onProgress: () => {
        peakBytes = Math.max(peakBytes, process.memoryUsage.rss() - before);
      },
    });
    if (report.counts.attested !== events) throw new Error(`reviewed ${report.counts.attested} of ${events}`);
  });
  const ratio = reviewed.processorMs / parsed.processorMs;
  const rate = ({ ms }: Spent) => `${(ms / 1000).toFixed(1)} s    ${(sizeBytes / ms / 1000).toFixed(0)} MB/s`;
  process.stdout.write(
    `${[
      `${events} events in ${FILES} files, ${(sizeBytes / 1e6).toFixed(0)} MB, ${availableParallelism()} processors, load ${(loadavg()[0] ?? 0).toFixed(1)}`,
      `JSON.parse of lines    ${rate(parsed)}    processor ${(parsed.processorMs / 1000).toFixed(1)} s`,
      `trail review           ${rate(reviewed)}    processor ${(reviewed.processorMs / 1000).toFixed(1)} s`,
      `ratio of processor time  ${ratio.toFixed(2)}    bar ${RATIO_BAR}    ${ratio <= RATIO_BAR ? 'met' : 'MISSED'}`,
      `memory on top          ${(peakBytes / (1 << 20)).toFixed(0)} MiB    bar ${MEMORY_BAR_BYTES >> 20} MiB    ${peakBytes <= MEMORY_BAR_BYTES ? 'met' : 'MISSED'}`,
    ].join('\n')}\n`,
  );
  return ratio <= RATIO_BAR && peakBytes <= MEMORY_BAR_BYTES ? 0 : 1;
}

interface Spent {
  readonly ms: number;
  readonly processorMs: number;
}

async function spent(work: () => Promise<void>): Promise<Spent> {
  const before = process.cpuUsage();
  const startMs = performance.now();
  await work();
  const { user, system } = process.cpuUsage(before);
  return { ms: performance.now() - startMs, processorMs: (user + system) / 1000 };
}

async function parseOnly(path: string): Promise<void> {
  for await (const line of createInterface({ input: createReadStream(path, { highWaterMark: 1 << 20 }) })) {
    JSON.parse(line);
  }
}

async function writeTrail(path: string, from: number, to: number): Promise<number> {
  const file = createWriteStream(path);
  for (let index = from; index < to; index++) {
    if (!file.write(`${JSON.stringify(record(index))}\n`)) await once(file, 'drain');
  }
  file.end();
  await once(file, 'finish');
  return file.bytesWritten;
}

function record(index: number): object {
  const id = index.toString(16).padStart(12, '0');
  return {
    eventVersion: '1.11',
    userIdentity: {
      type: 'AssumedRole',
      principalId: 'AROAEXAMPLE:i-0abcdef1234567890',
      arn: 'arn:aws:sts::111122223333:assumed-role/EnclaveHost/i-0abcdef1234567890',
      accountId: '111122223333',
      accessKeyId: 'ASIAEXAMPLE',
      sessionContext: {
        sessionIssuer: { type: 'Role', arn: HOST, accountId: '111122223333', userName: 'EnclaveHost' },
        attributes: { creationDate: '2026-11-30T00:00:00Z', mfaAuthenticated: 'false' },
      },
    },
    eventTime: `${new Date(1.79e12 + index * 1000).toISOString().slice(0, 19)}Z`,
    eventSource: 'kms.amazonaws.com',
    eventName: 'Decrypt',
    awsRegion: 'eu-central-1',
    sourceIPAddress: '192.0.2.1',
    userAgent: 'aws-sdk-js/3.1162.0',
    requestParameters: {
      encryptionAlgorithm: 'SYMMETRIC_DEFAULT',
      encryptionContext: { 'strongroom-model': 'iris', 'strongroom-purpose': 'model-data-key' },
      keyId: KEY,
    },
    responseElements: null,
    additionalEventData: {
      recipient: {
        attestationDocumentModuleId: 'i-0abcdef1234567890-enc0123456789abcdef',
        attestationDocumentEnclaveImageDigest: fill(0xd9),
        attestationDocumentEnclavePCR1: fill(1),
        attestationDocumentEnclavePCR2: fill(2),
        attestationDocumentEnclavePCR3: Buffer.from(pcrOfText(HOST)).toString('base64'),
        attestationDocumentEnclavePCR4: fill(4),
      },
    },
    requestID: `b4a65126-30d5-4b28-98b9-${id}`,
    eventID: `e5a2f202-ba1a-467c-b4ba-${id}`,
    readOnly: true,
    resources: [{ accountId: '111122223333', type: 'AWS::KMS::Key', ARN: KEY }],
    eventType: 'AwsApiCall',
    managementEvent: true,
    recipientAccountId: '111122223333',
    eventCategory: 'Management',
    tlsDetails: {
      tlsVersion: 'TLSv1.3',
      cipherSuite: 'TLS_AES_256_GCM_SHA384',
      clientProvidedHostHeader: 'kms.eu-central-1.amazonaws.com',
    },
  };
}
