import { createHash, verify, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { nsmClient } from '../../../enclave/nsm/client.ts';
import { type CborValue, decodeCbor, encodeCbor } from '../../../shared/cbor.ts';
import { createSimulatedCa, type SimulatedCa } from '../../../simulator/nsm/ca.ts';
import { newInstanceId, newModuleId } from '../../../simulator/nsm/identity.ts';
import { SoftwareNsm, type SoftwareNsmOptions } from '../../../simulator/nsm/software-nsm.ts';
import { describeWithVectors } from '../../vectors.ts';

const START = new Date('2026-01-03T20:40:28.841Z');
const MODULE_ID = 'i-0368fa67e156d6d23-enc019b8596b1a9dad6';
const PCRS = {
  0: new Uint8Array(48).fill(0xa0),
  1: new Uint8Array(48).fill(0xa1),
  2: new Uint8Array(48).fill(0xa2),
};
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

let ca: SimulatedCa;
let now: Date;
beforeAll(async () => {
  ca = await createSimulatedCa({ region: 'us-east-1', now: START });
});

function create(options: Partial<SoftwareNsmOptions> = {}): Promise<SoftwareNsm> {
  now = START;
  return SoftwareNsm.create({ ca, moduleId: MODULE_ID, pcrs: PCRS, now: () => now, ...options });
}

async function ask(nsm: SoftwareNsm, request: CborValue): Promise<CborValue> {
  return decodeCbor(await nsm.handle(encodeCbor(request)));
}

async function errorOf(nsm: SoftwareNsm, request: CborValue): Promise<unknown> {
  const answer = await ask(nsm, request);
  return answer instanceof Map ? answer.get('Error') : answer;
}

describeWithVectors('the bytes of the software NSM', (folder) => {
  const { requests, responses } = JSON.parse(readFileSync(join(folder, 'nsm', 'nsm-cbor.json'), 'utf8'));
  const bytesOf = (list: { name: string; cbor_hex: string }[], name: string) =>
    Buffer.from(list.find((entry) => entry.name === name)?.cbor_hex ?? '', 'hex');

  it('answers every published request with the published shape', async () => {
    const nsm = await create({ moduleId: MODULE_ID });
    for (const { name, cbor_hex } of requests) {
      const answer = await nsm.handle(Buffer.from(cbor_hex, 'hex'));
      const kind = name.split(' ')[0];
      const decoded = decodeCbor(answer);
      expect(decoded instanceof Map ? [...decoded.keys()] : [decoded], name).toEqual([kind]);
    }
  });

  it('is byte-exact where the answer holds nothing random', async () => {
    const nsm = await create();
    const request = (name: string) => bytesOf(requests, name);
    expect(hex(await nsm.handle(request('LockPCR index 16')))).toBe(hex(bytesOf(responses, 'LockPCR')));
    expect(hex(await nsm.handle(request('LockPCR index 16')))).toBe(
      hex(bytesOf(responses, 'Error ReadOnlyIndex')),
    );
    expect(hex(await nsm.handle(request('LockPCRs range 32')))).toBe(hex(bytesOf(responses, 'LockPCRs')));
    const described = hex(await nsm.handle(request('DescribePCR index 0')));
    expect(described).toBe(`a16b4465736372696265504352a2646c6f636bf564646174615830${'a0'.repeat(48)}`);
    const random = hex(await nsm.handle(request('GetRandom')));
    expect(random.slice(0, 44)).toBe(hex(bytesOf(responses, 'GetRandom')).slice(0, 44));
    expect(random).toHaveLength(hex(bytesOf(responses, 'GetRandom')).length);
    const published = hex(bytesOf(responses, 'DescribeNSM'));
    const ours = hex(await (await create()).handle(request('DescribeNSM')));
    const withModuleId = (text: string, id: string) => text.replace(hex(encodeCbor(id)), '');
    expect(withModuleId(ours, MODULE_ID)).toBe(withModuleId(published, 'i-1234-enc5678'));
  });
});

describe('odd requests', () => {
  it.each([
    ['nothing', new Uint8Array(0)],
    ['half a request', Buffer.from('a1674c6f636b504352', 'hex')],
    ['a number', encodeCbor(7)],
    ['an unknown name', encodeCbor('OpenDoor')],
    [
      'a request with a field too many',
      encodeCbor(
        new Map([
          [
            'DescribePCR',
            new Map([
              ['index', 1],
              ['x', 1],
            ]),
          ],
        ]),
      ),
    ],
    [
      'text where bytes belong',
      encodeCbor(
        new Map([
          [
            'ExtendPCR',
            new Map<string, CborValue>([
              ['index', 16],
              ['data', 'x'],
            ]),
          ],
        ]),
      ),
    ],
    [
      'an index in more bytes than it needs',
      Buffer.from('a16b4465736372696265504352a165696e646578190000', 'hex'),
    ],
  ])('%s is answered with InvalidOperation', async (_, bytes) => {
    expect(decodeCbor(await (await create()).handle(bytes))).toEqual(
      new Map([['Error', 'InvalidOperation']]),
    );
  });

  it('answers a request over 4096 bytes with InputTooLarge', async () => {
    const nsm = await create();
    const extend = (size: number) =>
      new Map([
        [
          'ExtendPCR',
          new Map<string, CborValue>([
            ['index', 16],
            ['data', new Uint8Array(size)],
          ]),
        ],
      ]);
    const overheadBytes = encodeCbor(extend(4000)).length - 4000;
    expect(await errorOf(nsm, extend(4096 - overheadBytes))).toBe(undefined);
    expect(await errorOf(nsm, extend(4097 - overheadBytes))).toBe('InputTooLarge');
  });

  it('takes 1024 bytes in each field of an attestation request, as hardware does, and no more', async () => {
    const nsm = await create();
    const attest = (field: string, size: number) =>
      new Map([
        [
          'Attestation',
          new Map<string, CborValue>(
            ['user_data', 'nonce', 'public_key'].map((name) => [
              name,
              name === field ? new Uint8Array(size) : null,
            ]),
          ),
        ],
      ]);
    for (const field of ['user_data', 'nonce', 'public_key']) {
      expect(await errorOf(nsm, attest(field, 1024))).toBe(undefined);
      expect(await errorOf(nsm, attest(field, 1025))).toBe('InputTooLarge');
    }
  });
});

describe('an attestation document', () => {
  async function parts(nsm: SoftwareNsm, fields: { nonce?: Uint8Array; userData?: Uint8Array } = {}) {
    const document = await nsmClient((request) => nsm.handle(request)).attest({
      userData: fields.userData ?? null,
      nonce: fields.nonce ?? null,
      publicKey: null,
    });
    const [protectedHeader, unprotected, payload, signature] = decodeCbor(document) as [
      Uint8Array,
      Map<CborValue, CborValue>,
      Uint8Array,
      Uint8Array,
    ];
    const content = decodeCbor(payload) as Map<string, CborValue>;
    return { document, protectedHeader, unprotected, payload, signature, content };
  }

  it('begins with the bytes that every AWS document begins with', async () => {
    const { document, payload, signature } = await parts(await create());
    expect(hex(document.subarray(0, 8))).toBe('8444a1013822a059');
    expect(payload[0]).toBe(0xbf);
    expect(payload.at(-1)).toBe(0xff);
    expect(signature).toHaveLength(96);
    expect(document).toHaveLength(4 + 6 + payload.length + 2 + 96);
  });

  it('is signed by the key of its leaf over the payload as it stands', async () => {
    const { protectedHeader, payload, signature, content } = await parts(await create());
    const toBeSigned = encodeCbor(['Signature1', protectedHeader, new Uint8Array(0), payload]);
    const { publicKey } = new X509Certificate(Buffer.from(content.get('certificate') as Uint8Array));
    expect(verify('sha384', toBeSigned, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature)).toBe(true);
  });

  it('has its nine fields in AWS order, null where nothing was given', async () => {
    const { content } = await parts(await create(), { nonce: Uint8Array.of(1) });
    expect([...content.keys()].join(' ')).toBe(
      'module_id digest timestamp pcrs certificate cabundle public_key user_data nonce',
    );
    expect(content.get('module_id')).toBe(MODULE_ID);
    expect(content.get('digest')).toBe('SHA384');
    expect(content.get('timestamp')).toBe(START.getTime());
    expect(content.get('public_key')).toBe(null);
    expect(content.get('user_data')).toBe(null);
    expect(content.get('nonce')).toEqual(Uint8Array.of(1));
  });

  it('can carry a definite map, as hardware did until 2025, with the same content', async () => {
    const { payload, content } = await parts(await create({ payloadMap: 'definite' }));
    expect(payload[0]).toBe(0xa9);
    expect([...content.keys()]).toEqual([...(await parts(await create())).content.keys()]);
  });

  it('lists locked registers only: 16 appears once it is locked', async () => {
    const nsm = await create();
    const client = nsmClient((request) => nsm.handle(request));
    const pcrs = async () => (await parts(nsm)).content.get('pcrs') as Map<number, Uint8Array>;
    await client.extendPcr(16, Uint8Array.of(1));
    expect([...(await pcrs()).keys()]).toEqual(Array.from({ length: 16 }, (_, index) => index));
    await client.lockPcr(16);
    expect([...(await pcrs()).keys()]).toEqual(Array.from({ length: 17 }, (_, index) => index));
  });

  it('shows the instance id in PCR4', async () => {
    const { content } = await parts(await create());
    const pcr4 = createHash('sha384').update(new Uint8Array(48)).update('i-0368fa67e156d6d23').digest('hex');
    expect(hex((content.get('pcrs') as Map<number, Uint8Array>).get(4) as Uint8Array)).toBe(pcr4);
  });

  it('has zero PCR0 to PCR2 in debug mode, and those alone', async () => {
    const { content } = await parts(await create({ debug: true, pcrs: { ...PCRS, 3: PCRS[0], 8: PCRS[1] } }));
    const pcrs = content.get('pcrs') as Map<number, Uint8Array>;
    for (const index of [0, 1, 2]) expect(hex(pcrs.get(index) as Uint8Array)).toBe('00'.repeat(48));
    for (const index of [3, 4, 8]) expect(hex(pcrs.get(index) as Uint8Array)).not.toBe('00'.repeat(48));
  });

  it('is signed by one leaf until it nears its end, then by another', async () => {
    const nsm = await create();
    const leaf = async () => hex((await parts(nsm)).content.get('certificate') as Uint8Array);
    const first = await leaf();
    now = new Date(START.getTime() + 2 * 3600_000);
    expect(await leaf()).toBe(first);
    now = new Date(START.getTime() + 3 * 3600_000 - 60_000);
    expect(await leaf()).not.toBe(first);
    now = START;
    expect(await leaf()).not.toBe(first);
  });
});

describe('concurrent requests', () => {
  it('are answered one after the other, in order', async () => {
    const nsm = await create();
    const client = nsmClient((request) => nsm.handle(request));
    const data = Array.from({ length: 20 }, (_, index) => Uint8Array.of(index));
    const answers = await Promise.all(data.map((bytes) => client.extendPcr(16, bytes)));
    let expected = Buffer.alloc(48);
    for (const [index, bytes] of data.entries()) {
      expected = createHash('sha384').update(expected).update(bytes).digest();
      expect(hex(answers[index] as Uint8Array)).toBe(hex(expected));
    }
  });
});

describe('names', () => {
  it('of instances and enclaves have the form of AWS ones', () => {
    const instanceId = newInstanceId();
    expect(instanceId).toMatch(/^i-[0-9a-f]{17}$/);
    expect(newModuleId(instanceId, START)).toMatch(/^i-[0-9a-f]{17}-enc019b859711a9[0-9a-f]{4}$/);
  });

  it('of another form are refused', async () => {
    await expect(create({ moduleId: 'i-1-tpm0123456789abcdef' })).rejects.toThrow('module id');
  });
});
