import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { main } from '../../../scripts/strongroom.ts';
import { pcrOfMeasuredBytes } from '../../../shared/pcr.ts';
import { RECEIPT_CHECKS } from '../../../shared/receipt/checks.ts';
import { answerDigest, requestDigest, streamEnding } from '../../../shared/receipt/receipt.ts';
import {
  ANSWER_BODY,
  type BuiltReceipt,
  buildReceipt,
  NOW,
  REQUEST,
  REQUEST_BODY,
  SALT,
} from '../../shared/receipt/build.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'receipt-verify-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const file = (name: string, content: Uint8Array | string) => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};

async function verify(args: readonly string[], input: Uint8Array | string = '') {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  stdin.end(input);
  const code = await main(['receipt', 'verify', ...args], {
    stdin,
    stdout,
    stderr,
    signal: new AbortController().signal,
  });
  const text = (stream: PassThrough) => (stream.read() as Buffer | null)?.toString('utf8') ?? '';
  return { code, out: text(stdout), err: text(stderr) };
}

const json = async (args: readonly string[], input?: Uint8Array | string) => {
  const { code, out } = await verify([...args, '--json'], input);
  const report = JSON.parse(out);
  return { exit: code, ...report, code: report.code ?? report.error?.code ?? null };
};

const base64url = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64url');
const hexOf = (byte: number) => Buffer.from(pcrOfMeasuredBytes(Uint8Array.of(byte))).toString('hex');
const saltText = base64url(SALT);

/** What `curl -D` would have saved. */
const head = (headers: Record<string, string>) =>
  `${['HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK', ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`)].join('\r\n')}\r\n\r\n`;

function exchangeFiles(built: BuiltReceipt, changes: Record<string, string> = {}) {
  const root = file('root.der', built.anchor.certificate);
  const pem = `-----BEGIN CERTIFICATE-----\n${Buffer.from(built.anchor.certificate).toString('base64')}\n-----END CERTIFICATE-----\n`;
  file('root.pem', pem);
  const expectations = {
    format: 'strongroom-expectations/1',
    pcrs: { 0: hexOf(0), 16: hexOf(16) },
    models: [{ name: 'iris', minimumVersion: 3 }],
    simulationRoot: 'root.pem',
  };
  return {
    root,
    expect: file('expectations.json', JSON.stringify(expectations)),
    head: file(
      'answer.head',
      head({
        'Content-Type': 'application/json',
        'Strongroom-Receipt': base64url(built.bytes),
        'Strongroom-Receipt-Salt': saltText,
        ...changes,
      }),
    ),
    request: file('request.json', REQUEST_BODY),
    answer: file('answer.json', ANSWER_BODY),
    salt: file('salt', `${saltText}\n`),
  };
}

describe('receipt verify', () => {
  const built = buildReceipt();
  const ofRequest = (request: string) => ['--request', request, '--path', REQUEST.target];

  it('ticks off every check of what curl saved', async () => {
    const files = exchangeFiles(built);
    const args = [
      files.head,
      '--expect',
      files.expect,
      ...ofRequest(files.request),
      '--answer',
      files.answer,
    ];
    const { code, out, err } = await verify(args);
    expect(err).toBe('');
    expect(code).toBe(0);
    for (const { section, what } of RECEIPT_CHECKS) expect(out).toContain(`[x] ${section}  ${what}`);
    expect(out).toContain('Verified: trust simulation.');
    expect(out).toContain('proves nothing beyond the simulation');
    expect(out).toMatch(/model +iris 3, content id b2b2/);
    expect(out).not.toContain(saltText);
    expect(await json(args)).toMatchObject({ exit: 0, verified: true, code: null, trust: 'simulation' });
  });

  it('takes a receipt as bytes, as base64, and from standard input', async () => {
    const { root, salt, answer } = exchangeFiles(built);
    for (const input of [built.bytes, base64url(built.bytes), Buffer.from(built.bytes).toString('base64')]) {
      expect(await json(['-', '--root', root], input)).toMatchObject({ exit: 0, verified: true });
      const paths = [file('receipt', input), '--root', root, '--salt', salt, '--answer', answer];
      expect(await json(paths)).toMatchObject({ exit: 0, verified: true });
    }
  });

  it('says who could have signed it where nothing is expected', async () => {
    const { root } = exchangeFiles(built);
    const { code, out } = await verify(['-', '--root', root], built.bytes);
    expect(code).toBe(0);
    expect(out).toContain('Any enclave could have signed it');
    expect(out).toContain('[-] 7.1');
  });

  it('trusts no simulation unless its root is named', async () => {
    const { head: path } = exchangeFiles(built);
    const report = await json([path]);
    expect(report).toMatchObject({
      exit: 1,
      code: 'ATTESTATION_UNTRUSTED_ROOT',
      verified: false,
      trust: null,
    });
    expect(report.receipt).toBeUndefined();
    expect(report.unverifiedReceipt.model.name).toBe('iris');
  });

  it('judges by the time of the document, or by the one that is given', async () => {
    const { root } = exchangeFiles(built);
    const judged = async (at: string) => (await json(['-', '--root', root, '--at', at], built.bytes)).code;
    expect(await judged('document')).toBeNull();
    expect(await judged(new Date(NOW.getTime() + 60_000).toISOString())).toBeNull();
    expect(await judged(new Date(NOW.getTime() - 59_500).toISOString())).toBe('RECEIPT_TIME');
    expect(await judged('2036-01-01T00:00:00Z')).toBe('ATTESTATION_EXPIRED');
  });

  it('takes the receipt of a stream from its end, and digests what comes before', async () => {
    const events = 'data: {"x":1}\n\ndata: [DONE]\n\n';
    const type = { status: 200, contentType: 'text/event-stream', framing: undefined };
    const stream = buildReceipt(({ payload }) => {
      payload.set('answer', answerDigest(SALT, type).update(events).digest());
    });
    const files = exchangeFiles(stream);
    const saved = file(
      'stream.head',
      head({ 'content-type': 'text/event-stream', 'strongroom-receipt-salt': saltText }),
    );
    const whole = Buffer.concat([Buffer.from(events), streamEnding(stream.bytes)]);
    const answer = file('answer.sse', whole);
    expect(await json([saved, '--expect', files.expect, '--answer', answer])).toMatchObject({
      exit: 0,
      verified: true,
    });
    expect(await json([saved, '--expect', files.expect])).toMatchObject({
      exit: 2,
      code: 'INPUT_UNREADABLE',
    });
    const cut = file('cut.sse', whole.subarray(0, -1));
    expect(await json([saved, '--expect', files.expect, '--answer', cut])).toMatchObject({
      exit: 2,
      code: 'INPUT_UNREADABLE',
    });
    const less = file('less.sse', whole.subarray('data: {"x":1}\n\n'.length));
    expect(await json([saved, '--expect', files.expect, '--answer', less])).toMatchObject({
      exit: 1,
      code: 'RECEIPT_OTHER_ANSWER',
    });
  });

  it('takes the framing of binary tensors into account, both ways', async () => {
    const request = { ...REQUEST, contentType: 'application/octet-stream', framing: '4' };
    const answer = { status: 200, contentType: 'application/octet-stream', framing: '6' };
    const binary = buildReceipt(({ payload }) => {
      payload.set('request', requestDigest(SALT, request).update(REQUEST_BODY).digest());
      payload.set('answer', answerDigest(SALT, answer).update(ANSWER_BODY).digest());
    });
    const headers = (framing: string) => ({
      'Content-Type': 'application/octet-stream',
      'Inference-Header-Content-Length': framing,
    });
    const files = exchangeFiles(binary, headers('6'));
    const args = [files.head, '--root', files.root, ...ofRequest(files.request)];
    expect((await json([...args, '--framing', '4', '--answer', files.answer])).code).toBeNull();
    expect((await json([...args, '--framing', '5'])).code).toBe('RECEIPT_OTHER_REQUEST');
    expect((await json(args)).code).toBe('RECEIPT_OTHER_REQUEST');
    const other = exchangeFiles(binary, headers('7'));
    expect((await json([other.head, '--root', files.root, '--answer', files.answer])).code).toBe(
      'RECEIPT_OTHER_ANSWER',
    );
  });

  it.each<[string, (files: ReturnType<typeof exchangeFiles>) => string[], string]>([
    ['another path', ({ request }) => ['--request', request, '--path', '/v2'], 'RECEIPT_OTHER_REQUEST'],
    ['another method', ({ request }) => [...ofRequest(request), '--method', 'PUT'], 'RECEIPT_OTHER_REQUEST'],
    ['answer and request exchanged', ({ answer }) => ofRequest(answer), 'RECEIPT_OTHER_REQUEST'],
    ['another answer', ({ request }) => ['--answer', request], 'RECEIPT_OTHER_ANSWER'],
    [
      'the salt of another receipt',
      ({ answer }) => ['--answer', answer, '--salt', file('other', base64url(SALT.with(3, 0xff)))],
      'RECEIPT_OTHER_ANSWER',
    ],
  ])('exits 1 with %s', async (_what, options, code) => {
    const files = exchangeFiles(built);
    expect(await json([files.head, '--root', files.root, ...options(files)])).toMatchObject({
      exit: 1,
      code,
      verified: false,
    });
  });

  it('exits 1 where another image or model is expected', async () => {
    const files = exchangeFiles(built);
    const expecting = (changes: object) =>
      json([
        files.head,
        '--expect',
        file(
          'other.json',
          JSON.stringify({
            format: 'strongroom-expectations/1',
            pcrs: { 0: hexOf(0), 16: 'any' },
            simulationRoot: 'root.pem',
            ...changes,
          }),
        ),
      ]);
    expect(await expecting({})).toMatchObject({ exit: 0, expectationsGiven: true });
    expect(await expecting({ pcrs: { 0: hexOf(1), 16: 'any' } })).toMatchObject({
      exit: 1,
      code: 'ATTESTATION_PCR_MISMATCH',
    });
    expect(await expecting({ models: [{ name: 'echo' }] })).toMatchObject({
      exit: 1,
      code: 'RECEIPT_MODEL_UNEXPECTED',
    });
  });

  it.each<[string, (files: ReturnType<typeof exchangeFiles>) => readonly string[], string]>([
    ['no receipt', () => [], 'USAGE'],
    ['two receipts', () => ['a', 'b'], 'USAGE'],
    [
      'two answers to whom to trust',
      ({ root, expect }) => ['-', '--root', root, '--expect', expect],
      'USAGE',
    ],
    ['a request without its path', ({ request }) => ['-', '--request', request], 'USAGE'],
    ['a path without its request', () => ['-', '--path', '/'], 'USAGE'],
    ['a method without a request', () => ['-', '--method', 'POST'], 'USAGE'],
    ['a framing that is no number', ({ request }) => ['-', ...ofRequest(request), '--framing', 'x'], 'USAGE'],
    ['a time without a zone', () => ['-', '--at', '2026-03-04T05:06:07'], 'USAGE'],
    [
      'a salt in an argument',
      ({ answer }) => ['-', `--salt=${'A'.repeat(43)}`, '--answer', answer],
      'INPUT_UNREADABLE',
    ],
    ['a file that is not there', () => ['/nonexistent/receipt'], 'INPUT_UNREADABLE'],
    [
      'an answer and no salt',
      ({ root, answer }) => ['-', '--root', root, '--answer', answer],
      'RECEIPT_SALT',
    ],
  ])('exits 2 with %s', async (_what, args, code) => {
    const { code: exit, err } = await verify(args(exchangeFiles(built)), built.bytes);
    expect(err).toContain(`code: ${code}`);
    expect(exit).toBe(2);
  });

  it.each<[string, Uint8Array | string, string]>([
    ['nothing', '', 'CBOR_MALFORMED'],
    ['text', 'this is no receipt!', 'CBOR_MALFORMED'],
    ['more than any receipt', Buffer.alloc(1 << 20, 0x84), 'RECEIPT_TOO_LARGE'],
    ['a head without a status', 'HTTP/1.1\r\n\r\n', 'INPUT_UNREADABLE'],
    ['a head without a receipt', head({ 'content-type': 'text/plain' }), 'INPUT_UNREADABLE'],
    ['a head with a line that is no header', head({ 'no header': '1' }), 'INPUT_UNREADABLE'],
    [
      'a head that says two things',
      `${head({ 'strongroom-receipt': 'AA' }).trimEnd()}\r\nStrongroom-Receipt: BB\r\n\r\n`,
      'INPUT_UNREADABLE',
    ],
    ['a head without end', `HTTP/1.1 200 OK\r\nx: ${'y'.repeat(1 << 20)}`, 'INPUT_UNREADABLE'],
  ])('exits 2 where it reads %s', async (_what, input, code) => {
    const { root } = exchangeFiles(built);
    expect(await json(['-', '--root', root], input)).toMatchObject({ exit: 2, code });
  });

  it('explains itself', async () => {
    const { code, out } = await verify(['--help']);
    expect(code).toBe(0);
    expect(out).toContain('Usage: strongroom receipt verify');
  });
});
