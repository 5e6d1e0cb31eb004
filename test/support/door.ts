/** A server whose door asks for certificates, and clients of every kind before it. */
import { ClientDoor, type ClientDoorOptions } from '../../enclave/clients/door.ts';
import type { AllowedClient, ClientRules } from '../../shared/deployment/clients.ts';
import type { TestCa } from './client-certificates.ts';

export const APP = 'spiffe://models.example.org/app-1';

export function allow(
  kind: AllowedClient['kind'],
  name: string,
  limits: AllowedClient['limits'] = {},
): AllowedClient {
  return { kind, name, limits };
}

export function rulesOf(ca: TestCa, rules: Partial<ClientRules> = {}): ClientRules {
  return {
    ca: [ca.pem],
    allowed: [allow('spiffe', APP)],
    maxCertificateHours: 24,
    denyListSigner: undefined,
    ...rules,
  };
}

export function doorOf(
  rules: ClientRules,
  options: Partial<Omit<ClientDoorOptions, 'rules'>> = {},
): ClientDoor {
  return new ClientDoor({
    rules,
    denyList: undefined,
    now: () => new Date(),
    monotonicMs: () => performance.now(),
    ...options,
  });
}
