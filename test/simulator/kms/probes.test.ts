/**
 * Probes of the labelled key policies, asked of the running KMS by the real SDK with real documents: the answer
 * must be the one that the policy engine is held to. Only what can be sent is asked: operations that are simulated,
 * enclave documents, and conditions that a caller can bring about.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  CreateGrantCommand,
  DecryptCommand,
  DescribeKeyCommand,
  EncryptCommand,
  GenerateDataKeyCommand,
  type KMSClient,
  PutKeyPolicyCommand,
} from '@aws-sdk/client-kms';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { simulationAnchor } from '../../../shared/attestation/anchors.ts';
import { parseKmsKeyArn } from '../../../shared/deployment/kms-key.ts';
import { sealBlob } from '../../../simulator/kms/ciphertext-blob.ts';
import type { SimulatedPrincipal } from '../../../simulator/kms/principals.ts';
import { startSimulatedKms } from '../../../simulator/kms/simulated-kms.ts';
import { createSimulatedCa, type SimulatedCa } from '../../../simulator/nsm/ca.ts';
import { describeWithVectors } from '../../vectors.ts';
import { ALL_OF_KMS, attest, clientOf, pcr, principal, refusal, toRecipient } from './support.ts';

interface Probe {
  readonly principal: string;
  readonly action: string;
  readonly attestation: string;
  readonly expect: 'allow' | 'deny';
  readonly context?: Readonly<Record<string, string>>;
}

interface Vector {
  readonly id: string;
  readonly file: string;
  readonly title: string;
  readonly probes: readonly Probe[] | 'refuse-policy';
  readonly requestContext?: Readonly<Record<string, string>>;
}

interface Expected {
  readonly key: string;
  readonly principals: Readonly<Record<string, string>>;
  readonly attestations: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly vectors: readonly Vector[];
}

interface Supplied {
  readonly iamPolicies?: Readonly<Record<string, readonly object[]>>;
  readonly grants?: readonly object[];
  readonly keyMetadata?: { readonly multiRegion?: boolean };
}

const OPERATIONS = ['Decrypt', 'GenerateDataKey', 'Encrypt', 'DescribeKey', 'PutKeyPolicy', 'CreateGrant'];
const CONTEXT_KEY = /^kms:EncryptionContext:(.+)$/;

function canBeSent(probe: Probe, vector: Vector): boolean {
  const operation = probe.action.replace(/^kms:/, '');
  const conditions = Object.keys({ ...vector.requestContext, ...probe.context });
  return (
    OPERATIONS.includes(operation) &&
    probe.attestation !== 'nitroTpm' &&
    conditions.every((name) => CONTEXT_KEY.test(name))
  );
}

describeWithVectors('probes of labelled policies, over the wire', (folder) => {
  const policies = join(folder, 'policies');
  const expected = JSON.parse(readFileSync(join(policies, 'expected.json'), 'utf8')) as Expected;
  const key = parseKmsKeyArn(expected.key);
  const documents = new Map<string, Uint8Array>();
  let ca: SimulatedCa;

  beforeAll(async () => {
    ca = await createSimulatedCa({ region: key.region, now: new Date() });
    for (const [name, registers] of Object.entries(expected.attestations)) {
      if (name !== 'nitroTpm') documents.set(name, await attest(ca, registersOf(registers)));
    }
  });
  afterAll(() => documents.clear());

  const contextFile = (vector: Vector) => join(policies, 'context', `${vector.id}.json`);
  const asked = expected.vectors.filter(({ probes }) => probes !== 'refuse-policy');

  it.each(asked)('$id: $title', async (vector) => {
    const probes = (vector.probes as readonly Probe[]).filter((probe) => canBeSent(probe, vector));
    expect(probes.length).toBeGreaterThan(0);
    const supplied: Supplied = existsSync(contextFile(vector))
      ? JSON.parse(readFileSync(contextFile(vector), 'utf8'))
      : {};
    const policy = readFileSync(join(policies, vector.file), 'utf8');
    const callers = new Map(
      [...new Set(probes.map((probe) => probe.principal))].map((name) => [
        name,
        callerOf(expected, name, supplied),
      ]),
    );
    const kms = await startSimulatedKms({
      region: key.region,
      accountId: key.accountId,
      principals: [...callers.values()],
      attestationAnchors: [simulationAnchor(ca.rootPem)],
      keys: [
        {
          keyId: key.keyId,
          policy,
          grants: supplied.grants ?? [],
          multiRegion: supplied.keyMetadata?.multiRegion ?? false,
        },
      ],
      now: () => new Date(),
    });
    const clients = new Map<string, KMSClient>();
    for (const [name, caller] of callers) clients.set(name, clientOf(kms, caller, { region: key.region }));
    try {
      const wrong: object[] = [];
      for (const probe of probes) {
        const client = clients.get(probe.principal) as KMSClient;
        const document = probe.attestation === 'none' ? undefined : documents.get(probe.attestation);
        const answer = await ask(
          client,
          probe,
          { ...vector.requestContext, ...probe.context },
          policy,
          document,
        );
        if (answer !== probe.expect) wrong.push({ ...probe, answer });
      }
      expect(wrong).toEqual([]);
    } finally {
      for (const client of clients.values()) client.destroy();
      await kms.close();
    }
  });

  /** Allowed is whatever comes after the decision: the dry run's answer, a result, or an error about content. */
  async function ask(
    client: KMSClient,
    probe: Probe,
    context: Readonly<Record<string, string>>,
    policy: string,
    document: Uint8Array | undefined,
  ): Promise<'allow' | 'deny' | string> {
    const KeyId = expected.key;
    const EncryptionContext = Object.fromEntries(
      Object.entries(context).map(([name, value]) => [CONTEXT_KEY.exec(name)?.[1] as string, value]),
    );
    const Recipient = document === undefined ? {} : { Recipient: toRecipient(document) };
    const blobOf = (id: string) =>
      sealBlob(id, { id: 'ab'.repeat(32), bytes: new Uint8Array(32) }, Buffer.of(1), new Map());
    const sent = {
      'kms:Decrypt': () =>
        client.send(
          new DecryptCommand({ CiphertextBlob: blobOf(key.keyId), EncryptionContext, ...Recipient }),
        ),
      'kms:GenerateDataKey': () =>
        client.send(
          new GenerateDataKeyCommand({
            KeyId,
            KeySpec: 'AES_256',
            EncryptionContext,
            DryRun: true,
            ...Recipient,
          }),
        ),
      'kms:Encrypt': () =>
        client.send(new EncryptCommand({ KeyId, Plaintext: Buffer.of(1), EncryptionContext, DryRun: true })),
      'kms:DescribeKey': () => client.send(new DescribeKeyCommand({ KeyId })),
      'kms:PutKeyPolicy': () => client.send(new PutKeyPolicyCommand({ KeyId, Policy: policy })),
      'kms:CreateGrant': () =>
        client.send(
          new CreateGrantCommand({
            KeyId,
            GranteePrincipal: 'arn:aws:iam::111122223333:role/Operator',
            Operations: ['Decrypt', 'Encrypt'],
            DryRun: true,
          }),
        ),
    }[probe.action];
    const found = await sent?.().then(
      () => 'answered',
      (error: unknown) => refusal(Promise.reject(error)).then(({ name }) => name),
    );
    if (found === 'AccessDeniedException') return 'deny';
    const after = [
      'answered',
      'DryRunOperationException',
      'InvalidCiphertextException',
      'MalformedPolicyDocumentException',
    ];
    return after.includes(String(found)) ? 'allow' : String(found);
  }
});

/** Registers that are not listed are zero, as the vectors say. */
function registersOf(listed: Readonly<Record<string, string>>): Record<number, Uint8Array> {
  const registers = Object.fromEntries(Array.from({ length: 16 }, (_, index) => [index, pcr(0)]));
  for (const [name, value] of Object.entries(listed)) {
    registers[Number(name.slice('PCR'.length))] = Uint8Array.from(Buffer.from(value, 'hex'));
  }
  return registers;
}

/** Reads "host role, session i-0ff…", "arn… with IAM Allow kms:* on *", "host with principal tag k = PCR0 of X". */
function callerOf(expected: Expected, name: string, supplied: Supplied): SimulatedPrincipal {
  const text = expected.principals[name] ?? '';
  const base = /^(\w+) (?:role, session|with principal tag)/.exec(text)?.[1];
  const arn = (base === undefined ? text : (expected.principals[base] ?? '')).split(' ')[0] as string;
  const tag = /principal tag (\S+) = (PCR\d+) of (\w+)/.exec(text);
  const session =
    /session (\S+)$/.exec(text)?.[1] ?? (name.startsWith('host') ? 'i-0abcdef1234567890' : 'session');
  const sameAccount = arn.split(':')[4] === expected.key.split(':')[4];
  const own = sameAccount ? (supplied.iamPolicies?.[arn.slice(arn.lastIndexOf('/') + 1)] ?? []) : [];
  const iamPolicies = [...own, ...(text.includes('with IAM Allow kms:* on *') ? [ALL_OF_KMS] : [])];
  const tagValue = tag === null ? undefined : expected.attestations[tag[3] as string]?.[tag[2] as string];
  return principal(arn, {
    accessKeyId: `AKIA${name}`,
    iamPolicies,
    sessionName: session,
    ...(tag === null || tagValue === undefined ? {} : { tags: { [tag[1] as string]: tagValue } }),
  });
}
