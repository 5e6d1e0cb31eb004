/**
 * The simulator's stand-in with a spy: before anything else is loaded, it wraps node:crypto's key generation,
 * and writes each private key, masked, where the test finds it. Everything after that is the enclave as it is.
 */
import crypto, { type KeyObject } from 'node:crypto';
import { appendFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { promisify } from 'node:util';
import { MASKED_KEYS_FILE, mask } from './masked-keys.ts';

function handOver(privateKey: KeyObject): void {
  const der = privateKey.export({ type: 'pkcs8', format: 'der' });
  try {
    const type = privateKey.asymmetricKeyType;
    appendFileSync(MASKED_KEYS_FILE, `${type} ${Buffer.from(mask(der)).toString('hex')}\n`);
  } finally {
    der.fill(0);
  }
}

const { generateKeyPairSync, generateKeyPair } = crypto;
const generate = promisify(generateKeyPair);

Object.assign(crypto, {
  generateKeyPairSync: (...args: Parameters<typeof generateKeyPairSync>) => {
    const pair = generateKeyPairSync(...args);
    handOver(pair.privateKey as unknown as KeyObject);
    return pair;
  },
  generateKeyPair: Object.assign(() => {}, {
    [promisify.custom]: async (...args: Parameters<typeof generate>) => {
      const pair = await generate(...args);
      handOver(pair.privateKey as unknown as KeyObject);
      return pair;
    },
  }),
});
syncBuiltinESMExports();

await import('../../../simulator/enclave.ts');
