/** The simulated KMS on the loopback network, with the roles of a local stack. */
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  kmsConfig,
  newCredentials,
  type RoleCredentials,
  type RoleName,
} from '../../../simulator/account.ts';
import type { KmsEndpoint } from '../../../simulator/local-stack.ts';
import { ended, firstLine } from '../../../simulator/processes.ts';

const MAIN = join(import.meta.dirname, '..', '..', '..', 'simulator/kms/main.ts');

export interface Kms {
  readonly endpoint: KmsEndpoint;
  readonly credentials: Readonly<Record<RoleName, RoleCredentials>>;
  stop(): Promise<void>;
}

export async function startKms(folder: string, instanceId: string, attestationRoot: string): Promise<Kms> {
  const credentials = newCredentials(new Date());
  const config = kmsConfig(credentials, instanceId, attestationRoot, join(folder, 'cloudtrail.jsonl'));
  const path = join(folder, 'kms.json');
  writeFileSync(path, JSON.stringify(config), { mode: 0o600 });
  const child = spawn(process.execPath, [MAIN, path], {
    env: { PATH: '/nowhere' },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const endpoint = await firstLine<KmsEndpoint>(child, (line) => line.ready === true);
  return { endpoint, credentials, stop: () => ended(child, 'SIGTERM') };
}
