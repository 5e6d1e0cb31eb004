/**
 * How long a review of a key policy of the largest size takes, for several ways to fill one. Judged is processor time,
 * which does not hang on what else the machine does; the clock is shown besides.
 */
import { createHash } from 'node:crypto';
import { reviewPolicy } from '../../review/policy/review.ts';
import { POLICY_MAX_BYTES } from '../../shared/policy/parse.ts';

const BAR_MS = 1_000;
const ROUNDS = 3;
const ACCOUNT = '111122223333';
const KEY = 'kms:RecipientAttestation';

type Fill = (index: number) => object;

const SHAPES: Readonly<Record<string, Fill>> = {
  'an image for each role': (index) =>
    allow(role(index), 'kms:Decrypt', {
      StringEqualsIgnoreCase: { [`${KEY}:PCR0`]: digest(`image ${index}`) },
    }),
  'everything for each role': (index) => allow(role(index), ['kms:D*', 'kms:Re*']),
  'lists of kernels and applications': (index) =>
    allow(role(0), 'kms:Decrypt', {
      StringEquals: {
        [`${KEY}:PCR1`]: [digest(`a ${index}`), digest(`b ${index}`)],
        [`${KEY}:PCR2`]: [digest(`c ${index}`), digest(`d ${index}`)],
      },
    }),
  'pins by tag': (index) =>
    allow(role(0), 'kms:Decrypt', { StringEquals: { [`${KEY}:PCR0`]: `\${aws:PrincipalTag/p${index}}` } }),
  'Denies of many keys': (index) =>
    index === 0
      ? allow(`arn:aws:iam::${ACCOUNT}:root`, 'kms:*')
      : {
          Effect: 'Deny',
          Principal: '*',
          Action: 'kms:*',
          Resource: '*',
          Condition: {
            StringNotEquals: { [`${KEY}:PCR0`]: digest('image 0'), [`aws:PrincipalTag/t${index}`]: 'a' },
          },
        },
  'Denies of many principals': (index) =>
    index === 0
      ? allow(`arn:aws:iam::${ACCOUNT}:root`, 'kms:*')
      : {
          Effect: 'Deny',
          Principal: '*',
          Action: 'kms:*',
          Resource: '*',
          Condition: {
            ArnNotLike: { 'aws:PrincipalArn': `${role(index)}*` },
            StringNotEquals: { [`aws:PrincipalTag/t${index}`]: 'a' },
          },
        },
};

export const bench = {
  name: 'policy',
  async run(): Promise<number> {
    let isMet = true;
    for (const [name, fill] of Object.entries(SHAPES)) {
      const bytes = Buffer.from(filled(fill));
      const times = Array.from({ length: ROUNDS + 1 }, () => timed(bytes)).slice(1);
      const processorMs = median(times.map((one) => one.processorMs));
      const clockMs = median(times.map((one) => one.clockMs));
      const met = processorMs < BAR_MS;
      isMet &&= met;
      process.stdout.write(
        `${name}: ${bytes.length} bytes, ${processorMs.toFixed(0)} ms of processor time, ${clockMs.toFixed(0)} ms by the clock ` +
          `(medians of ${ROUNDS}); bar ${BAR_MS} ms: ${met ? 'met' : 'MISSED'}\n`,
      );
    }
    return isMet ? 0 : 1;
  },
};

function timed(bytes: Uint8Array): { readonly processorMs: number; readonly clockMs: number } {
  const registers = { pcr0: digest('image 0'), pcr1: digest('kernel'), pcr2: digest('application') };
  const processor = process.cpuUsage();
  const clock = performance.now();
  reviewPolicy({
    policy: { name: 'policy.json', bytes },
    reviewed: [{ name: 'the reviewed image', registers }],
    now: new Date('2026-01-01T00:00:00Z'),
  });
  const { user, system } = process.cpuUsage(processor);
  return { processorMs: (user + system) / 1_000, clockMs: performance.now() - clock };
}

function filled(fill: Fill): string {
  const statements: object[] = [];
  for (let index = 0; ; index += 1) {
    const next = JSON.stringify({ Version: '2012-10-17', Statement: [...statements, fill(index)] });
    if (next.length > POLICY_MAX_BYTES)
      return JSON.stringify({ Version: '2012-10-17', Statement: statements });
    statements.push(fill(index));
  }
}

function allow(who: string, Action: string | readonly string[], Condition?: object): object {
  return { Effect: 'Allow', Principal: { AWS: who }, Action, Resource: '*', ...(Condition && { Condition }) };
}

function role(index: number): string {
  return `arn:aws:iam::${ACCOUNT}:role/R${index}`;
}

function digest(text: string): string {
  return createHash('sha384').update(text).digest('hex');
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}
