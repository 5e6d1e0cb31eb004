/** What clients with certificates need on a local stack: a CA, one client, and a deny list with its key. */
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { permittedName } from '../../owner/certificates/constraints.ts';
import { createFolder, readFolder } from '../../owner/certificates/folder.ts';
import { createCa, issueCertificate, type Pair } from '../../owner/certificates/issue.ts';
import { spiffeId } from '../../owner/certificates/names.ts';
import { nextDenyList, replaceFile } from '../../owner/deny-list.ts';
import { writeOwnerKeys } from '../../owner/keygen.ts';
import { readPrivateKey } from '../../owner/secret-files.ts';

const TRUST_DOMAIN = 'simulation.test';
const CLIENT = `spiffe://${TRUST_DOMAIN}/client-1`;
const DAY_MS = 24 * 60 * 60 * 1000;
/** A simulation is not left to run for longer. */
const LIST_DAYS = 7;

export interface LocalClients {
  readonly trustDomain: string;
  readonly spiffe: string;
  /** Folder of the CA, as "strongroom cert" takes it. */
  readonly clientCa: string;
  readonly clientCertificate: string;
  readonly clientKey: string;
  readonly denyList: string;
  readonly denyListKey: string;
  /** `clients` of a deployment that serves every client of the CA. */
  readonly rules: object;
}

/** In `folder/simulated-clients`, in place of those of an earlier simulation. */
export async function makeClientCertificates(folder: string, at: Date): Promise<LocalClients> {
  const place = join(folder, 'simulated-clients');
  rmSync(place, { recursive: true, force: true });
  mkdirSync(place, { recursive: true, mode: 0o700 });
  const ca = await kept(
    join(place, 'ca'),
    createCa({ at, days: 30, permitted: [permittedName(`spiffe://${TRUST_DOMAIN}`)], curve: 'P-384' }),
  );
  const holder = await readFolder(ca);
  const client = await kept(
    join(place, 'client-1'),
    issueCertificate(holder, { at, days: 1, use: 'client', names: [spiffeId(CLIENT)], curve: 'P-256' }),
  );
  const [keys] = await writeOwnerKeys(join(place, 'deny-list-keys'), ['signing']);
  if (keys === undefined) throw new Error('no key was made');
  const denyList = join(place, 'deny-list.json');
  const signer = await readPrivateKey(keys.privateFile);
  const first = nextDenyList({
    previous: undefined,
    signer,
    at,
    lifeMs: LIST_DAYS * DAY_MS,
    add: [],
    remove: [],
  });
  await replaceFile(denyList, first.bytes);
  return {
    trustDomain: TRUST_DOMAIN,
    spiffe: CLIENT,
    clientCa: ca,
    clientCertificate: join(client, 'certificate.pem'),
    clientKey: join(client, 'key.pem'),
    denyList,
    denyListKey: keys.privateFile,
    rules: {
      ca: readFileSync(join(ca, 'certificate.pem'), 'utf8'),
      allowed: [{ trustDomain: TRUST_DOMAIN }],
      denyList: { signer: readFileSync(keys.publicFile, 'utf8') },
    },
  };
}

async function kept(folder: string, pair: Pair): Promise<string> {
  try {
    await createFolder(folder, pair);
    return folder;
  } finally {
    pair.keyPem.fill(0);
  }
}
