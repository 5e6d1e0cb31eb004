/** Each model of the deployment, read from its store and checked as far as that goes without its key. */
import type { ParentConfig } from '../../parent/config/config.ts';
import { credentialsFromFile } from '../../parent/credentials/file.ts';
import { credentialsFromInstanceRole } from '../../parent/credentials/instance-role.ts';
import { openModelStore } from '../../parent/models/open-store.ts';
import type { ModelFile, ModelStore } from '../../parent/models/store.ts';
import type { Deployment, ModelPin } from '../../shared/deployment/deployment.ts';
import { HEAD_MAX_BYTES, type Head, parseHead } from '../../shared/sealed-model/head.ts';
import { expectKeyFileOf, KEY_FILE_MAX_BYTES, parseKeyFile } from '../../shared/sealed-model/key-file.ts';
import { expectHeadOf, MANIFEST_MAX_BYTES, verifyManifest } from '../../shared/sealed-model/manifest.ts';
import { type Check, type CheckGroup, messageOf, ok, problem, type Result } from './check.ts';
import { actionOf } from './configuration.ts';
import type { World } from './world.ts';

const TIMEOUT_MS = 30_000;

export const modelsGroup: CheckGroup = {
  title: 'Models',
  checks: (world, { config, deployment }): readonly Check[] => {
    if (config === undefined || deployment === undefined) return [];
    return deployment.models.map((pin) => ({
      id: `model.${pin.name}`,
      why: 'The enclave refuses a model that is not exactly what the deployment names.',
      run: () => checkModel(world, { config, deployment, pin }),
    }));
  },
};

interface ModelToCheck {
  readonly config: ParentConfig;
  readonly deployment: Deployment;
  readonly pin: ModelPin;
}

async function checkModel(world: World, what: ModelToCheck): Promise<Result> {
  const { config, deployment, pin } = what;
  let store: ModelStore | undefined;
  try {
    store = storeOf(world, config);
    const head = parseHead(await readFile(store, pin.name, 'head', HEAD_MAX_BYTES));
    await expectPinned(store, pin, head);
    const keyFile = parseKeyFile(await readFile(store, pin.name, 'key.json', KEY_FILE_MAX_BYTES));
    expectKeyFileOf(head, keyFile);
    const shared = keyFile.wraps.filter(({ keyArn }) => deployment.kmsKeys.some(({ arn }) => arn === keyArn));
    if (shared.length === 0) {
      throw new Error('key.json is wrapped by no key that the deployment lists');
    }
    await expectPayload(store, pin.name, head);
    return ok(
      `version ${head.identity.version}, ${head.payloadSizeBytes} bytes, ${shared.length} wrap(s) of its key`,
    );
  } catch (error) {
    return problem(
      `${pin.name}: ${messageOf(error)}`,
      actionOf(
        error,
        'Publish the sealed model again, or correct the deployment or "models" of the configuration.',
      ),
    );
  } finally {
    store?.close();
  }
}

export function storeOf(world: World, config: ParentConfig): ModelStore {
  const credentials =
    config.credentials.kind === 'file'
      ? credentialsFromFile(config.credentials.path)
      : credentialsFromInstanceRole({ endpoint: world.imdsEndpoint });
  return openModelStore(config.models, { credentials, observe: () => {}, now: world.now });
}

/** What the enclave checks too (docs/flow.md step 4). */
async function expectPinned(store: ModelStore, pin: ModelPin, head: Head): Promise<void> {
  const { name, version } = head.identity;
  if (name !== pin.name) throw new Error(`expected a model named ${pin.name}, found one named ${name}`);
  if (pin.kind === 'content') {
    const contentId = Buffer.from(head.contentId).toString('hex');
    if (contentId !== pin.contentId) {
      throw new Error(`expected the content id ${pin.contentId}, found ${contentId}`);
    }
    return;
  }
  const manifest = await readFile(store, pin.name, 'manifest.json', MANIFEST_MAX_BYTES);
  expectHeadOf(verifyManifest(manifest, pin.signer), head);
  if (version < pin.minimumVersion) {
    throw new Error(`expected version ${pin.minimumVersion} or newer, found ${version}`);
  }
}

async function expectPayload(store: ModelStore, model: string, { payloadSizeBytes }: Head): Promise<void> {
  await using file = await store.open(model, 'payload', AbortSignal.timeout(TIMEOUT_MS));
  if (file?.sizeBytes === payloadSizeBytes) return;
  throw new Error(`expected a payload of ${payloadSizeBytes} bytes, found ${file?.sizeBytes ?? 'none'}`);
}

async function readFile(
  store: ModelStore,
  model: string,
  name: ModelFile,
  maxBytes: number,
): Promise<Uint8Array> {
  await using file = await store.open(model, name, AbortSignal.timeout(TIMEOUT_MS));
  if (file === undefined) throw new Error(`there is no ${model}.sealed/${name}`);
  if (file.sizeBytes > maxBytes) {
    throw new Error(`${name}: expected at most ${maxBytes} bytes, found ${file.sizeBytes}`);
  }
  if (file.sizeBytes === 0) return new Uint8Array(0);
  const chunks: Uint8Array[] = [];
  for await (const chunk of await file.read({ first: 0, last: file.sizeBytes - 1 })) chunks.push(chunk);
  return Buffer.concat(chunks);
}
