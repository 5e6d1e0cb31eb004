/**
 * The demonstration: one model's way from training to a verified answer, with separate processes for KMS,
 * parent, enclave and engine. Nothing of it is staged: each line reports what was just done or measured.
 */
import { connect } from '../../client/connect.ts';
import type { VerifiedEnclave } from '../../client/verified-enclave.ts';
import { describePolicy } from '../../review/policy/describe.ts';
import type { LocalInstance } from '../../simulator/local-instance.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';
import {
  createKey,
  newOwner,
  pcrsOf,
  pinRelease,
  type Release,
  sealAsOwner,
  writeDeployment,
} from '../local/release.ts';
import { type Flower, predictIris, readFlowers, SPECIES, splitFlowers, trainIris } from '../model/iris.ts';
import { encodeIrisModel } from '../model/iris-onnx.ts';
import type { Narrator } from './narrator.ts';

export const MODEL = 'iris';

/** What the attacks need of the story: everything that was made, and an enclave that serves. */
export interface ToldStory {
  readonly release: Release;
  readonly instance: LocalInstance;
  readonly pcrs: { readonly 0: string; readonly 16: string };
}

export async function tellStory(stack: LocalStack, narrator: Narrator): Promise<ToldStory> {
  const { onnx, held } = await narrator.step('The owner trains a model', trainAndExport);
  narrator.fact('accuracy', `${held.right} of ${held.flowers.length} irises that it has not seen`);
  narrator.fact('file', `${onnx.length} bytes of ONNX`);

  const { release, pcrs } = await prepare(stack, narrator, onnx);
  const instance = await startEnclave(stack, narrator, release);
  await ask(stack, narrator, { release, instance, pcrs }, held.flowers);
  return { release, instance, pcrs };
}

function trainAndExport() {
  const { training, held: flowers } = splitFlowers(readFlowers());
  const network = trainIris(training);
  const right = flowers.filter(
    ({ measurements, species }) => mostLikely(predictIris(network, measurements)) === species,
  ).length;
  return { onnx: encodeIrisModel(network), held: { flowers, right } };
}

async function prepare(stack: LocalStack, narrator: Narrator, onnx: Uint8Array) {
  const { owner, keyArn } = await narrator.step(
    'The owner and the administrator make their keys',
    async () => ({
      owner: await newOwner(),
      keyArn: await createKey(stack),
    }),
  );
  narrator.fact('KMS key', keyArn);

  const deployment = writeDeployment({ keyArn, signer: owner.signing.publicKey, modelName: MODEL });
  const pcrs = pcrsOf(stack, deployment);
  const policy = await narrator.step('The reviewer pins image and deployment in the key policy', () =>
    pinRelease(stack, keyArn, deployment, MODEL),
  );
  narrator.fact('image, PCR0', pcrs[0]);
  narrator.fact('deployment, PCR16', pcrs[16]);
  narrator.fact('the policy says', describePolicy(policy));

  const modelsFolder = `${stack.folder}/models`;
  const sealed = await narrator.step('The owner seals the model as it leaves the training job', () =>
    sealAsOwner(stack, { owner, keyArn, name: MODEL, version: 1, onnx, modelsFolder }),
  );
  narrator.fact('content id', sealed.manifest.contentId);
  narrator.fact('data key', 'wrapped by KMS, and once more under a recovery key that stays with the owner');
  return { release: { owner, keyArn, deployment, policy, modelsFolder, sealed }, pcrs };
}

/** What each step of the boot means to a person. */
const STEP_MEANINGS: Readonly<Record<string, string>> = {
  'parent-started': 'started the parent process',
  'enclave-started': 'the hypervisor measured the image and started its command',
  'randomness-seeded': 'mixed in randomness of the security module',
  'deployment-measured': 'measured the deployment into PCR16, locked all registers',
  'model-checked': 'checked signature, name and version of the model',
  'data-key-released': 'attested to KMS, which released the data key',
  'weights-opened': 'fetched, authenticated and opened the weights in memory',
  'data-key-wiped': 'wiped the data key',
  'engine-loaded': 'loaded the model in a confined engine process',
  serving: 'serves',
};

async function startEnclave(stack: LocalStack, narrator: Narrator, release: Release): Promise<LocalInstance> {
  const steps: { step: string; tookMs: number }[] = [];
  const instance = await narrator.step('The enclave starts, from a cold process to serving', async () => {
    let lastAtMs = performance.now();
    const lap = (step: string): void => {
      const now = performance.now();
      steps.push({ step, tookMs: now - lastAtMs });
      lastAtMs = now;
    };
    const { deployment, modelsFolder } = release;
    const started = await stack.startInstance({ deployment, modelsFolder, onStep: lap, onStarted: lap });
    await started.serving;
    return started;
  });
  for (const { step, tookMs } of steps) {
    narrator.fact(`${tookMs.toFixed(0).padStart(6)} ms`, STEP_MEANINGS[step] ?? step);
  }
  return instance;
}

async function ask(
  stack: LocalStack,
  narrator: Narrator,
  { instance, pcrs }: ToldStory,
  flowers: readonly Flower[],
): Promise<void> {
  const enclave = await narrator.step('A client connects and verifies the enclave', () =>
    connect(instance.url, {
      pcrs,
      models: [{ name: MODEL, minimumVersion: 1 }],
      simulationRoot: stack.attestationRoot,
    }),
  );
  try {
    narrator.fact('trust', `${enclave.evidence.trust}: signed under the root of this simulation`);
    narrator.fact('verified', 'chain, freshness, image, deployment, this TLS session, the model');
    const flower = flowers[12] as Flower;
    const probabilities = await narrator.step('It asks, on the connection that it verified', () =>
      infer(enclave, flower),
    );
    narrator.fact('measurements', `${flower.measurements.join(', ')} cm`);
    SPECIES.forEach((species, index) => {
      const probability = probabilities[index] as number;
      narrator.fact(
        species,
        `${(probability * 100).toFixed(1).padStart(5)} %  ${'▇'.repeat(Math.round(probability * 30))}`,
      );
    });
    narrator.fact('answer', `${mostLikely(probabilities)}; the flower is ${flower.species}`);
  } finally {
    await enclave.close();
  }
}

async function infer(enclave: VerifiedEnclave, flower: Flower): Promise<number[]> {
  const response = await enclave.fetch(`/v2/models/${MODEL}/infer`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      inputs: [{ name: 'measurements', datatype: 'FP32', shape: [1, 4], data: flower.measurements }],
    }),
  });
  if (!response.ok) throw new Error(`the enclave answered ${response.status}: ${await response.text()}`);
  const { outputs } = (await response.json()) as { outputs: { data: number[] }[] };
  return outputs[0]?.data ?? [];
}

function mostLikely(probabilities: readonly number[]): string {
  return SPECIES[probabilities.indexOf(Math.max(...probabilities))] ?? 'none';
}
