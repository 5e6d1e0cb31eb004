/** Options that commands share which talk to an enclave as a caller. */
import {
  type ClientCertificateFiles,
  type ClientExpectations,
  readExpectationsFile,
} from '../client/index.ts';
import { CommandError } from './errors.ts';
import { expectFile } from './input-file.ts';

const EXPECTATIONS_MAX_BYTES = 64 * 1024;
const PEM_MAX_BYTES = 64 * 1024;

export const CLIENT_OPTIONS = {
  expect: { type: 'string' },
  'client-cert': { type: 'string' },
  'client-key': { type: 'string' },
} as const;

export const CLIENT_OPTIONS_HELP = `
  --expect FILE        what the enclave must be: measurements and models (docs/evidence.md section 6)
  --client-cert FILE   for an enclave that admits only some: the certificate in PEM, read anew for each connection
  --client-key FILE    and its key
`.trim();

export interface ClientChoices {
  readonly expectations: ClientExpectations;
  readonly connection: { readonly clientCertificate?: ClientCertificateFiles };
}

/** Throws CommandError `USAGE` or `INPUT_UNREADABLE`, or ClientError `CLIENT_EXPECTATIONS`. */
export async function readClientOptions(values: {
  readonly expect?: string | undefined;
  readonly 'client-cert'?: string | undefined;
  readonly 'client-key'?: string | undefined;
}): Promise<ClientChoices> {
  const { expect, 'client-cert': certFile, 'client-key': keyFile } = values;
  if (expect === undefined) {
    throw new CommandError('USAGE', 'Expected --expect FILE: nothing is asked unverified.');
  }
  await expectFile(expect, EXPECTATIONS_MAX_BYTES);
  const expectations = await readExpectationsFile(expect);
  if (certFile === undefined && keyFile === undefined) return { expectations, connection: {} };
  if (certFile === undefined || keyFile === undefined) {
    throw new CommandError('USAGE', '--client-cert and --client-key go together.');
  }
  for (const path of [certFile, keyFile]) await expectFile(path, PEM_MAX_BYTES);
  return { expectations, connection: { clientCertificate: { certFile, keyFile } } };
}
