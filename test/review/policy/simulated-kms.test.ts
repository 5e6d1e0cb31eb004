/**
 * The simulated KMS gives the answer that a report says: to every witness over all labelled policies where it decides
 * (authorize.ts), and over the wire, by the real SDK with real documents, to those of some of them.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  CreateGrantCommand,
  DecryptCommand,
  type GrantOperation,
  PutKeyPolicyCommand,
} from '@aws-sdk/client-kms';
import { expect, it } from 'vitest';
import type { Witness } from '../../../review/policy/report.ts';
import { reviewPolicy } from '../../../review/policy/review.ts';
import { simulationAnchor } from '../../../shared/attestation/anchors.ts';
import { parseKmsKeyArn } from '../../../shared/deployment/kms-key.ts';
import { parseGrant } from '../../../shared/policy/grants.ts';
import { parsePolicy } from '../../../shared/policy/parse.ts';
import { decideCall, type Question } from '../../../simulator/kms/authorize.ts';
import type { Call } from '../../../simulator/kms/call.ts';
import { sealBlob } from '../../../simulator/kms/ciphertext-blob.ts';
import { startSimulatedKms } from '../../../simulator/kms/simulated-kms.ts';
import { createSimulatedCa } from '../../../simulator/nsm/ca.ts';
import { attest, clientOf, principal, refusal, toRecipient } from '../../simulator/kms/support.ts';
import { describeWithVectors } from '../../vectors.ts';
import { type LabelledPolicy, labelled, requestFor } from './support.ts';

interface Supplied {
  readonly grants?: readonly object[];
  readonly keyMetadata?: { readonly multiRegion?: boolean };
}

/** Each has other ways in: directly, by grant, by another image, by policy change. */
const OVER_THE_WIRE = ['A055', 'A058', 'A040', 'A028', 'A076', 'A007', 'R026', 'R013'];

describeWithVectors('witnesses before the simulated KMS', (folder) => {
  const expected = labelled(folder);
  const policies = join(folder, 'policies');
  const readable = expected.vectors.filter(({ verdict }) => verdict !== 'MALFORMED');
  const key = parseKmsKeyArn(expected.key);

  const suppliedFor = ({ id }: LabelledPolicy): Supplied => {
    const path = join(policies, 'context', `${id}.json`);
    return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : {};
  };
  const witnessesOf = (vector: LabelledPolicy): Witness[] =>
    reviewPolicy(requestFor(folder, expected, vector)).findings.flatMap(({ witness }) =>
      witness === null ? [] : [witness],
    );

  it.each(readable)('$id: where it decides', (vector) => {
    const { grants = [], keyMetadata } = suppliedFor(vector);
    const policyText = readFileSync(join(policies, vector.file), 'utf8');
    const simulatedKey = {
      arn: expected.key,
      policy: parsePolicy(Buffer.from(policyText), 'key'),
      grants: new Map(
        grants.map((entry, index) => [String(index), { entry, token: '', grant: parseGrant(entry) }]),
      ),
      multiRegion: keyMetadata?.multiRegion ?? false,
    } as unknown as NonNullable<Question['key']>;
    for (const witness of witnessesOf(vector)) {
      if (witness.attestation?.platform === 'nitro-tpm') continue;
      const decision = decideCall(callOf(witness), {
        key: simulatedKey,
        encryptionContext: new Map(Object.entries(witness.encryptionContext)),
        context: witness.context,
        ...(witness.attestation === null
          ? {}
          : { recipient: { moduleId: '', pcrs: registersOf(witness), seal: (bytes: Uint8Array) => bytes } }),
      });
      expect({ witness, answer: decision.allowed ? 'allow' : 'deny' }).toEqual({
        witness,
        answer: witness.answer,
      });
    }
  });

  it.each(expected.vectors.filter(({ id }) => OVER_THE_WIRE.includes(id)))(
    '$id: over the wire',
    async (vector) => {
      const { grants = [], keyMetadata } = suppliedFor(vector);
      const policy = readFileSync(join(policies, vector.file), 'utf8');
      const ca = await createSimulatedCa({ region: key.region, now: new Date() });
      const witnesses = witnessesOf(vector).filter(
        ({ action, attestation }) =>
          ['kms:Decrypt', 'kms:CreateGrant', 'kms:PutKeyPolicy'].includes(action) &&
          attestation?.platform !== 'nitro-tpm',
      );
      expect(witnesses.length).toBeGreaterThan(0);
      for (const witness of witnesses) {
        const { arn, sessionArn, tags, identityPolicies } = witness.principal;
        const caller = principal(arn, {
          ...(sessionArn === null ? {} : { sessionName: sessionArn.slice(sessionArn.lastIndexOf('/') + 1) }),
          iamPolicies: identityPolicies,
          tags,
        });
        const kms = await startSimulatedKms({
          region: key.region,
          accountId: key.accountId,
          principals: [caller],
          attestationAnchors: [simulationAnchor(ca.rootPem)],
          keys: [{ keyId: key.keyId, policy, grants, multiRegion: keyMetadata?.multiRegion ?? false }],
          now: () => new Date(),
        });
        const client = clientOf(kms, caller, { region: key.region });
        try {
          const document =
            witness.attestation === null
              ? undefined
              : await attest(ca, Object.fromEntries(registersOf(witness)));
          const Recipient = document === undefined ? {} : { Recipient: toRecipient(document) };
          const blob = sealBlob(
            key.keyId,
            { id: 'ab'.repeat(32), bytes: new Uint8Array(32) },
            Buffer.of(1),
            new Map(),
          );
          const KeyId = expected.key;
          const sent =
            witness.action === 'kms:Decrypt'
              ? client.send(
                  new DecryptCommand({
                    CiphertextBlob: blob,
                    EncryptionContext: { ...witness.encryptionContext },
                    ...Recipient,
                  }),
                )
              : witness.action === 'kms:PutKeyPolicy'
                ? client.send(new PutKeyPolicyCommand({ KeyId, Policy: policy }))
                : client.send(
                    new CreateGrantCommand({
                      KeyId,
                      GranteePrincipal: witness.context['kms:GranteePrincipal']?.[0] ?? arn,
                      Operations: [...(witness.context['kms:GrantOperations'] ?? [])] as GrantOperation[],
                      DryRun: true,
                    }),
                  );
          const found = await sent.then(
            () => 'answered',
            (error: unknown) => refusal(Promise.reject(error)).then(({ name }) => name),
          );
          expect({ witness, denied: found === 'AccessDeniedException' }).toEqual({
            witness,
            denied: witness.answer === 'deny',
          });
        } finally {
          client.destroy();
          await kms.close();
        }
      }
    },
    60_000,
  );

  function callOf({ action, principal: who }: Witness): Call {
    const { arn, sessionArn, accountId, tags, identityPolicies } = who;
    return {
      operation: action.replace('kms:', ''),
      caller: {
        identity: {
          arn,
          accountId,
          tags: new Map(Object.entries(tags)),
          ...(sessionArn === null ? {} : { sessionArn }),
        },
        identityPolicies: identityPolicies.map((document) =>
          parsePolicy(Buffer.from(JSON.stringify(document)), 'identity'),
        ),
      },
      at: new Date(),
      world: { region: key.region },
      sourceIp: '127.0.0.1',
      userAgent: 'test',
    } as unknown as Call;
  }
});

/** Registers that a witness does not name are zero. */
function registersOf({ attestation }: Witness): Map<number, Uint8Array> {
  return new Map(
    Array.from({ length: 32 }, (_, index) => [
      index,
      Uint8Array.from(Buffer.from(attestation?.registers[`PCR${index}`] ?? '00'.repeat(48), 'hex')),
    ]),
  );
}
