/**
 * Six attacks on the story that was just told, each for real: what is refused below is refused by the same
 * code, in the same processes, that let the honest case through a moment before.
 */
import { appendFileSync, chmodSync, cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DecryptCommand } from '@aws-sdk/client-kms';
import { connect } from '../../client/connect.ts';
import { signSealedFolder } from '../../owner/sign-model.ts';
import { codeOf } from '../../shared/errors.ts';
import { parseKeyFile } from '../../shared/sealed-model/key-file.ts';
import { LocalStackError } from '../../simulator/errors.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';
import { localKmsClient } from '../local/kms-client.ts';
import { newOwner, sealAsOwner, writeDeployment } from '../local/release.ts';
import { whyDenied } from '../local/why-denied.ts';
import { readFlowers, trainIris } from '../model/iris.ts';
import { encodeIrisModel } from '../model/iris-onnx.ts';
import type { Refusal } from './narrator.ts';
import { MODEL, type ToldStory } from './story.ts';

export interface Attack {
  readonly name: string;
  readonly attempt: string;
  /** What must refuse it. Any other failure proves nothing and counts as not refused. */
  readonly expected: string;
  /** Resolves to what refused it; undefined if nothing did. */
  run(stack: LocalStack, story: ToldStory): Promise<Refusal | undefined>;
}

export const ATTACKS: readonly Attack[] = [
  {
    name: 'no-attestation',
    expected: 'AccessDeniedException',
    attempt: "The parent asks KMS for the data key with its own role's credentials and no attestation.",
    run: async (stack, { release }) => {
      const keyFile = parseKeyFile(readFileSync(join(release.sealed.folder, 'key.json')));
      const client = localKmsClient(stack, 'host');
      try {
        await client.send(
          new DecryptCommand({
            KeyId: release.keyArn,
            CiphertextBlob: keyFile.wraps[0]?.ciphertextBlob,
            EncryptionContext: release.sealed.encryptionContext,
          }),
        );
        return undefined;
      } catch (error) {
        const { name, message } = error as Error;
        return { code: name, message, ...whyOfKms(stack) };
      } finally {
        client.destroy();
      }
    },
  },
  {
    name: 'changed-code',
    expected: 'KMS_DENIED',
    attempt: 'The parent starts an image with one more line in one file of the enclave.',
    run: async (stack, { release }) => {
      const image = join(stack.folder, 'image-changed');
      cpSync(stack.image, image, { recursive: true });
      const file = join(image, 'rootfs/app/enclave/boot.ts');
      chmodSync(file, 0o644);
      appendFileSync(file, '// one line more\n');
      chmodSync(file, 0o444);
      return startAndFail(stack, { ...release, image });
    },
  },
  {
    name: 'other-deployment',
    expected: 'KMS_DENIED',
    attempt: 'The parent hands over a deployment document that trusts another signer.',
    run: async (stack, { release }) => {
      const attacker = await newOwner();
      const deployment = writeDeployment({
        keyArn: release.keyArn,
        signer: attacker.signing.publicKey,
        modelName: MODEL,
      });
      const modelsFolder = join(stack.folder, 'models-resigned');
      cpSync(release.modelsFolder, modelsFolder, { recursive: true });
      await signSealedFolder(join(modelsFolder, `${MODEL}.sealed`), attacker.signing.privateKey);
      return startAndFail(stack, { deployment, modelsFolder });
    },
  },
  {
    name: 'other-model',
    expected: 'SEALED_MANIFEST_UNSIGNED',
    attempt: 'The parent serves a model of its own under the name that the deployment gives.',
    run: async (stack, { release }) => {
      const flowers = readFlowers();
      const modelsFolder = join(stack.folder, 'models-other');
      await sealAsOwner(stack, {
        owner: await newOwner(),
        keyArn: release.keyArn,
        name: MODEL,
        version: 2,
        onnx: encodeIrisModel(trainIris(flowers.slice(0, 60))),
        modelsFolder,
      });
      return startAndFail(stack, { ...release, modelsFolder });
    },
  },
  {
    name: 'tampered-payload',
    expected: 'SEALED_CHUNK_REFUSED',
    attempt: 'The parent changes one bit of the sealed weights.',
    run: async (stack, { release }) => {
      const modelsFolder = join(stack.folder, 'models-tampered');
      cpSync(release.modelsFolder, modelsFolder, { recursive: true });
      const path = join(modelsFolder, `${MODEL}.sealed`, 'payload');
      const payload = readFileSync(path);
      payload[payload.length >> 1] = (payload[payload.length >> 1] as number) ^ 1;
      writeFileSync(path, payload);
      return startAndFail(stack, { ...release, modelsFolder });
    },
  },
  {
    name: 'other-image-expected',
    expected: 'ATTESTATION_PCR_MISMATCH',
    attempt: 'A client that expects another image connects to the honest enclave.',
    run: async (stack, { instance, pcrs }) => {
      const otherImage = Buffer.from(pcrs[0], 'hex').reverse().toString('hex');
      try {
        const enclave = await connect(instance.url, {
          pcrs: { ...pcrs, 0: otherImage },
          simulationRoot: stack.attestationRoot,
        });
        await enclave.close();
        return undefined;
      } catch (error) {
        return { code: codeOf(error) ?? 'UNEXPECTED', message: (error as Error).message };
      }
    },
  },
];

/** Starts an enclave that must not get to serve, and says what stopped it. */
async function startAndFail(
  stack: LocalStack,
  { deployment, modelsFolder, image }: { deployment: Uint8Array; modelsFolder: string; image?: string },
): Promise<Refusal | undefined> {
  const instance = await stack.startInstance({
    deployment,
    modelsFolder,
    ...(image === undefined ? {} : { image }),
  });
  try {
    await instance.serving;
    return undefined;
  } catch (error) {
    if (!(error instanceof LocalStackError) || error.reason === undefined) throw error;
    const { reason: code, message } = error;
    return code === 'KMS_DENIED' ? { code, message, ...whyOfKms(stack) } : { code, message };
  } finally {
    await instance.close();
  }
}

/** The reason of the refusal that KMS wrote down last. */
function whyOfKms(stack: LocalStack): Pick<Refusal, 'why'> {
  const denial = stack.denials().at(-1);
  return denial === undefined ? {} : { why: whyDenied(denial) };
}
