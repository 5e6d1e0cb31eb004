import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { generateKeyPolicy } from '../../../review/policy/generate.ts';
import { shortened, whyDenied } from '../../../scripts/local/why-denied.ts';
import { pcrOfText } from '../../../shared/pcr.ts';
import { attestationContext } from '../../../shared/policy/context.ts';
import { decide } from '../../../shared/policy/decide.ts';
import { parsePolicy } from '../../../shared/policy/parse.ts';
import { readDenials } from '../../../simulator/kms/denials.ts';

const ACCOUNT = '111122223333';
const HOST = `arn:aws:iam::${ACCOUNT}:role/EnclaveHost`;
const KEY = `arn:aws:kms:eu-central-1:${ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab`;
const image = Buffer.alloc(48, 0xa1);
const deployment = Buffer.alloc(48, 0xb2);
const other = Buffer.alloc(48, 0xc3);

const keyPolicy = parsePolicy(
  Buffer.from(
    generateKeyPolicy({
      accountId: ACCOUNT,
      releases: [{ pcr0: image.toString('hex'), pcr16: deployment.toString('hex'), modelName: 'iris' }],
      hostRoleArn: HOST,
      administratorArns: [`arn:aws:iam::${ACCOUNT}:role/KeyAdministrator`],
      sealerArns: [`arn:aws:iam::${ACCOUNT}:role/ModelOwner`],
    }),
  ),
  'key',
);

/** As the policy engine explains it, and the simulated KMS writes it down. */
function denied(pcrs: ReadonlyMap<number, Uint8Array> | undefined): string {
  const { allowed, explanation } = decide(
    {
      principal: { arn: HOST, accountId: ACCOUNT },
      action: 'kms:Decrypt',
      keyArn: KEY,
      context: new Map(pcrs === undefined ? [] : attestationContext(pcrs)),
    },
    { keyPolicy, identityPolicies: [], grants: [] },
  );
  expect(allowed).toBe(false);
  return whyDenied({ explanation });
}

const measured = (change: readonly [number, Uint8Array]): ReadonlyMap<number, Uint8Array> =>
  new Map<number, Uint8Array>([[0, image], [16, deployment], [3, pcrOfText(HOST)], change]);

describe('why KMS refused, in one line', () => {
  it.each([
    ['image', 0, 'PCR0', 'DenyOtherImages', 'a1a1a1a1a1a1…'],
    ['deployment', 16, 'PCR16', 'DenyOtherDeployments', 'b2b2b2b2b2b2…'],
  ] as const)('names the register of another %s', (_what, index, register, statement, wanted) => {
    const why = denied(measured([index, other]));
    expect(why).toMatch(
      new RegExp(
        `^${register} is c3c3c3c3c3c3…; "${statement}" \\(line \\d+ of the key policy\\) wants ${wanted}$`,
      ),
    );
    expect(why.length).toBeLessThan(120);
  });

  it('says that there was no attestation document', () => {
    expect(denied(undefined)).toBe(
      'there is no attestation document, so no PCR0, PCR16, PCR3 to compare with the key policy',
    );
  });

  it('gives the first reason as it stands where no register decided', () => {
    expect(whyDenied({ explanation: ['No statement of the key policy allows it.', 'more'] })).toBe(
      'No statement of the key policy allows it.',
    );
    expect(whyDenied({ explanation: [] })).toBe('it gives no reason');
  });
});

describe('texts for one line', () => {
  it('keep no hash, key id or ARN whole', () => {
    expect(
      shortened(
        `KMS refused (AccessDeniedException): User: arn:aws:sts::${ACCOUNT}:assumed-role/EnclaveHost/i-0123456789abcdef0 is not authorized to perform: kms:Decrypt on resource: ${KEY} because`,
      ),
    ).toBe('User: EnclaveHost is not authorized to perform: kms:Decrypt because');
    expect(shortened(`key ${KEY}, PCR0 ${image.toString('hex')}`)).toBe(
      'key key/1234abcd…, PCR0 a1a1a1a1a1a1…',
    );
    expect(shortened('Chunk 0 failed, fetched 4 times.')).toBe('Chunk 0 failed, fetched 4 times.');
  });
});

describe('the refusals of an audit log', () => {
  it('are read in order, and answered requests are none', () => {
    const folder = mkdtempSync(join(tmpdir(), 'strongroom-denials-'));
    const log = join(folder, 'cloudtrail.jsonl');
    try {
      expect(readDenials(log)).toEqual([]);
      const record = (eventName: string, errorCode: string | undefined, explanation: string[]): string =>
        `${JSON.stringify({
          eventName,
          ...(errorCode === undefined ? {} : { errorCode }),
          userIdentity: { arn: HOST },
          strongroom: { outcome: errorCode === undefined ? 'answered' : 'refused', explanation },
        })}\n`;
      writeFileSync(
        log,
        record('Encrypt', undefined, ['fine']) +
          record('Decrypt', 'AccessDenied', ['one']) +
          record('CreateKey', 'AccessDenied', ['two']) +
          '{"a record that is still being wri',
      );
      expect(readDenials(log)).toEqual([
        { operation: 'Decrypt', caller: HOST, errorCode: 'AccessDenied', explanation: ['one'] },
        { operation: 'CreateKey', caller: HOST, errorCode: 'AccessDenied', explanation: ['two'] },
      ]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
