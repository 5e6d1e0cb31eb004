/** A policy of the largest size is reviewed with a bounded number of questions, whatever fills it. */
import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { analyse } from '../../../review/policy/analysis.ts';
import { worldOf } from '../../../review/policy/world-of.ts';
import { parsePolicy } from '../../../shared/policy/parse.ts';
import { IMAGE, NOW, reviewText } from './support.ts';

const MAX_BYTES = 32_768;
const role = (name: string) => `arn:aws:iam::111122223333:role/${name}`;
const digest = (text: string) => createHash('sha384').update(text).digest('hex');

function filled(make: (index: number) => object): string {
  const statements: object[] = [];
  for (let index = 0; ; index += 1) {
    const next = JSON.stringify({ Version: '2012-10-17', Statement: [...statements, make(index)] });
    if (next.length > MAX_BYTES) return JSON.stringify({ Version: '2012-10-17', Statement: statements });
    statements.push(make(index));
  }
}

const SHAPES: Readonly<Record<string, (index: number) => object>> = {
  'an image for each role': (index) => ({
    Effect: 'Allow',
    Principal: { AWS: role(`R${index}`) },
    Action: 'kms:Decrypt',
    Resource: '*',
    Condition: { StringEqualsIgnoreCase: { 'kms:RecipientAttestation:PCR0': digest(`image ${index}`) } },
  }),
  'everything for each role': (index) => ({
    Effect: 'Allow',
    Principal: { AWS: role(`R${index}`) },
    Action: ['kms:D*', 'kms:Re*'],
    Resource: '*',
  }),
  'Denies of many principals': (index) => ({
    Effect: index === 0 ? 'Allow' : 'Deny',
    Principal: index === 0 ? { AWS: 'arn:aws:iam::111122223333:root' } : '*',
    Action: 'kms:*',
    Resource: '*',
    ...(index === 0
      ? {}
      : {
          Condition: {
            ArnNotLike: { 'aws:PrincipalArn': `${role(`R${index}`)}*` },
            StringNotEquals: { [`aws:PrincipalTag/t${index}`]: 'a' },
          },
        }),
  }),
  'Denies of many keys': (index) => ({
    Effect: index === 0 ? 'Allow' : 'Deny',
    Principal: '*',
    Action: 'kms:*',
    Resource: '*',
    ...(index === 0
      ? {}
      : {
          Condition: {
            StringNotEquals: {
              [`aws:PrincipalTag/t${index}`]: 'a',
              [`kms:EncryptionContext:k${index}`]: 'v',
            },
          },
        }),
  }),
};

it.each(Object.entries(SHAPES))('%s', (_, make) => {
  const text = filled(make);
  expect(text.length).toBeGreaterThan(MAX_BYTES - 400);
  const keyPolicy = parsePolicy(Buffer.from(text), 'key');
  const world = worldOf({
    keyPolicy,
    reviewed: [{ name: 'the reviewed image', registers: IMAGE }],
    hostRoleArns: [],
    now: NOW,
  });
  const { asker } = analyse(world);
  expect(asker.questions).toBeLessThan(60_000);
  expect(asker.steps).toBeLessThan(2_000_000);
  expect(reviewText(text).verdict).not.toBe('ONLY_IMAGE');
});
