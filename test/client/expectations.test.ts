import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type ClientExpectations, checkExpectations, DEFAULT_MAX_AGE_MS } from '../../client/expectations.ts';
import { parseExpectations, readExpectationsFile } from '../../client/expectations-file.ts';
import { createSimulatedCa } from '../../simulator/nsm/ca.ts';

const A = 'ab'.repeat(48);
const B = 'CD'.repeat(48);
const ZERO = '00'.repeat(48);
const unusable = (part: RegExp) =>
  expect.objectContaining({ code: 'CLIENT_EXPECTATIONS', message: expect.stringMatching(part) });

let rootPem: string;
let folder: string;
beforeAll(async () => {
  rootPem = (await createSimulatedCa({ region: 'eu-central-1', now: new Date() })).rootPem;
  folder = await mkdtemp(join(tmpdir(), 'expectations-'));
});
afterAll(() => rm(folder, { recursive: true }));

describe('expectations', () => {
  test('are taken as given; hex in one case; AWS unless a simulation is named', () => {
    const checked = checkExpectations({ pcrs: { 0: A, 16: [A, B], 3: 'any' }, models: [{ name: 'iris' }] });
    expect(checked.pcrs).toEqual({ 0: A, 16: [A, B.toLowerCase()], 3: 'any' });
    expect(checked.maxAgeMs).toBe(DEFAULT_MAX_AGE_MS);
    expect(checked.models).toEqual([{ name: 'iris' }]);
    expect(checked.anchors.map(({ trust }) => trust)).toEqual(['aws-nitro']);
  });

  test('name a simulation, and then nothing but it', () => {
    const checked = checkExpectations({ pcrs: { 0: A, 16: A }, simulationRoot: rootPem });
    expect(checked.anchors.map(({ trust }) => trust)).toEqual(['simulation']);
  });

  const both = { 0: A, 16: A };
  test.each([
    ['nothing', undefined, /an object/],
    ['no registers', {}, /pcrs: expected an object/],
    ['no PCR0', { pcrs: { 16: A } }, /pcrs\[0\], the image, is missing/],
    ['no PCR16', { pcrs: { 0: A } }, /pcrs\[16\], the deployment, is missing/],
    ['PCR0 undefined', { pcrs: { 0: undefined, 16: A } }, /pcrs\[0\].*found nothing/],
    ['an empty list', { pcrs: { 0: [], 16: A } }, /empty list/],
    ['"any" within a list', { pcrs: { 0: ['any'], 16: A } }, /pcrs\[0\]\[0\]/],
    ['an empty value', { pcrs: { 0: '', 16: A } }, /96 hex digits/],
    ['a short value', { pcrs: { 0: 'ab', 16: A } }, /96 hex digits/],
    ['a value that is not hex', { pcrs: { 0: 'xy'.repeat(48), 16: A } }, /96 hex digits/],
    ['all-zero PCR0', { pcrs: { 0: ZERO, 16: A } }, /all-zero/],
    ['all-zero PCR16 in a list', { pcrs: { 0: A, 16: [A, ZERO] } }, /all-zero/],
    ['PCR32', { pcrs: { ...both, 32: A } }, /"32"; registers are 0 to 31/],
    ['PCR -1', { pcrs: { ...both, '-1': A } }, /"-1"/],
    ['PCR 00', { pcrs: { ...both, '00': A } }, /"00"/],
    ['a register with a name', { pcrs: { ...both, pcr3: A } }, /"pcr3"/],
    ['a misspelt member', { pcrs: both, maxage: 1 }, /unknown member "maxage"/],
    ['age zero', { pcrs: both, maxAgeMs: 0 }, /maxAgeMs/],
    ['an age without end', { pcrs: both, maxAgeMs: Number.POSITIVE_INFINITY }, /maxAgeMs/],
    ['an age that is no number', { pcrs: both, maxAgeMs: Number.NaN }, /maxAgeMs/],
    ['an empty list of models', { pcrs: both, models: [] }, /at least one model/],
    ['a model without a name', { pcrs: both, models: [{}] }, /models\[0\]\.name/],
    ['a model with an unknown member', { pcrs: both, models: [{ name: 'a', digest: 'b' }] }, /"digest"/],
    ['minimum version 0', { pcrs: both, models: [{ name: 'a', minimumVersion: 0 }] }, /positive integer/],
    [
      'a content id that is none',
      { pcrs: both, models: [{ name: 'a', contentId: 'b' }] },
      /64 lower-case hex/,
    ],
    ['a root that is no certificate', { pcrs: both, simulationRoot: 'root.pem' }, /simulationRoot/],
    ['an empty root', { pcrs: both, simulationRoot: '' }, /simulationRoot/],
    ['a root that is null', { pcrs: both, simulationRoot: null }, /simulationRoot/],
  ])('with %s are refused', (_what, expectations, message) => {
    expect(() => checkExpectations(expectations as unknown as ClientExpectations)).toThrow(unusable(message));
  });
});

describe('a file of expectations', () => {
  const FILE = {
    format: 'strongroom-expectations/1',
    pcrs: { 0: A, 16: [A, B], 3: 'any' },
    maxAgeSeconds: 60,
    models: [{ name: 'iris', minimumVersion: 2 }],
  };
  const parse = (value: unknown) => parseExpectations(Buffer.from(JSON.stringify(value)));

  test('says the same as the argument', () => {
    expect(parse({ ...FILE, simulationRoot: 'root.pem' })).toEqual({
      pcrs: { 0: A, 16: [A, B.toLowerCase()], 3: 'any' },
      maxAgeMs: 60_000,
      models: [{ name: 'iris', minimumVersion: 2 }],
      simulationRootPath: 'root.pem',
    });
  });

  test('names its simulation root relative to itself', async () => {
    await writeFile(join(folder, 'root.pem'), rootPem);
    await writeFile(join(folder, 'expect.json'), JSON.stringify({ ...FILE, simulationRoot: 'root.pem' }));
    const expectations = await readExpectationsFile(join(folder, 'expect.json'));
    expect(expectations.simulationRoot).toBe(rootPem);
    expect(checkExpectations(expectations).anchors[0].trust).toBe('simulation');
  });

  test.each([
    ['no format', { ...FILE, format: undefined }, /format/],
    ['another format', { ...FILE, format: 'strongroom-expectations/2' }, /format/],
    ['an unknown member', { ...FILE, maxAgeMs: 1 }, /unknown member "maxAgeMs"/],
    ['no registers', { ...FILE, pcrs: undefined }, /pcrs/],
    ['no PCR16', { ...FILE, pcrs: { 0: A } }, /pcrs\[16\]/],
    ['an age in text', { ...FILE, maxAgeSeconds: '60' }, /maxAgeSeconds/],
    ['a negative age', { ...FILE, maxAgeSeconds: -1 }, /maxAgeMs/],
    ['a root that is no path', { ...FILE, simulationRoot: {} }, /simulationRoot/],
    ['a list', [FILE], /not a JSON object/],
  ])('with %s is refused', (_what, file, message) => {
    expect(() => parse(file)).toThrow(unusable(message));
  });

  test.each([
    ['not JSON', 'pcrs: {}'],
    ['a member twice', `{"format":"strongroom-expectations/1","pcrs":{"0":"any","0":"${A}","16":"any"}}`],
    ['too large', ' '.repeat(65 * 1024)],
  ])('that is %s is refused', (_what, text) => {
    expect(() => parseExpectations(Buffer.from(text))).toThrow(unusable(/strict JSON/));
  });
});
