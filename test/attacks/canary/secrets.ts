/** The secrets of the story that a test can know, and a few things that are none. */
import { createHmac, createPrivateKey, hkdfSync, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { openRecoveryWrap } from '../../../owner/recovery.ts';
import type { Release } from '../../../scripts/local/release.ts';
import { type Head, parseHead } from '../../../shared/sealed-model/head.ts';
import { keyInfo } from '../../../shared/sealed-model/keys.ts';
import type { LocalStack } from '../../../simulator/local-stack.ts';
import { type Canary, keyCanaries, textCanary } from '../../support/canaries.ts';
import { mask } from './masked-keys.ts';

/** Of one line that the spying image wrote. */
export function privateKeyCanaries(line: string): Canary[] {
  const [type, masked = ''] = line.split(' ');
  const der = Buffer.from(mask(Buffer.from(masked, 'hex')));
  const parts = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }).export({ format: 'jwk' });
  const numbers = type === 'rsa' ? [parts.d, parts.p, parts.q] : [parts.d];
  const name = type === 'rsa' ? 'RSA key for KMS' : 'TLS key';
  return numbers.flatMap((number) =>
    keyCanaries(name, Buffer.from(number ?? '', 'base64url').subarray(0, 32)),
  );
}

/** The data key, which the owner has in the recovery wrap, and everything secret that is derived from it. */
export function dataKeyCanaries({ owner, sealed }: Release): Canary[] {
  const head = parseHead(readFileSync(join(sealed.folder, 'head')));
  const wrap = readFileSync(sealed.recoveryFile as string);
  const dataKey = openRecoveryWrap(wrap, head, owner.recovery.privateKey as KeyObject);
  const extracted = createHmac('sha512', head.parts.salt).update(dataKey).digest();
  return [
    ...keyCanaries('data key', dataKey),
    ...keyCanaries('extracted key', extracted),
    ...keyCanaries('payload key', derived(dataKey, head, keyInfo('payload', head.context, 0))),
    ...keyCanaries('header key', derived(dataKey, head, keyInfo('header', head.context))),
  ];
}

/** What anybody may know, and what shows that the search sees the parent, the files and the printed lines too. */
export function publicCanaries(stack: LocalStack, { keyArn }: Release): Canary[] {
  return [stack.folder, keyArn, stack.kms.host].map((text) => textCanary('no secret', text));
}

function derived(dataKey: Uint8Array, head: Head, info: Uint8Array): Uint8Array {
  return new Uint8Array(hkdfSync('sha512', dataKey, head.parts.salt, info, 32));
}
