import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { DEPLOYMENT_MAX_BYTES, parseDeployment } from '../../shared/deployment/deployment.ts';
import type { ParentConfig } from '../config/config.ts';
import type { NitroCliConfig } from '../config/enclave.ts';
import { ParentError } from '../errors.ts';
import { readBounded } from '../files.ts';
import type { ModelStore } from '../models/store.ts';
import { NitroError } from './errors.ts';
import { type HostFacts, readHostFacts } from './host-facts.ts';
import { type Sizing, type SizingFinding, sizeEnclave } from './sizing.ts';

const STORE_TIMEOUT_MS = 30_000;

/**
 * What can be known before an enclave is started: nitro-cli, the image, the deployment and the models are there,
 * and the sum of their sizes fits. Starts nothing. Throws for what cannot be read at all.
 */
export async function checkEnclave(
  config: ParentConfig,
  enclave: NitroCliConfig,
  { store, host }: { readonly store: ModelStore; readonly host?: HostFacts },
): Promise<Sizing> {
  await access(enclave.program, constants.X_OK).catch((cause: Error) => {
    throw new NitroError('NITRO_CLI_MISSING', `Cannot run ${enclave.program}: ${cause.message}`, cause);
  });
  const image = await stat(enclave.image);
  if (!image.isFile()) {
    throw new ParentError('PARENT_CONFIG_INVALID', `enclave.image: ${enclave.image} is no regular file.`);
  }
  const bytes = await readBounded(config.deploymentPath, DEPLOYMENT_MAX_BYTES);
  if (bytes === undefined) {
    const found = `${config.deploymentPath} is no regular file of at most ${DEPLOYMENT_MAX_BYTES} bytes.`;
    throw new ParentError('PARENT_CONFIG_INVALID', `The deployment cannot be read: ${found}`);
  }
  const deployment = parseDeployment(bytes);
  const { models, findings } = await modelSizes(store, deployment.models);
  const sizing = sizeEnclave({
    memoryMib: enclave.memoryMib,
    cpuCount: enclave.cpuCount,
    imageSizeBytes: image.size,
    models,
    limits: deployment.limits,
    host: host ?? (await factsFor(config)),
  });
  return {
    ...sizing,
    findings: [...findings, ...sizing.findings],
    fits: sizing.fits && findings.every(({ severity }) => severity !== 'error'),
  };
}

/** Over UNIX sockets the enclave is a simulated one, and takes neither huge pages nor CPUs from this host. */
async function factsFor({ link }: ParentConfig): Promise<HostFacts | undefined> {
  return link.kind === 'vsock' ? await readHostFacts() : undefined;
}

async function modelSizes(
  store: ModelStore,
  pins: readonly { readonly name: string }[],
): Promise<{ models: { name: string; payloadSizeBytes: number }[]; findings: SizingFinding[] }> {
  const models: { name: string; payloadSizeBytes: number }[] = [];
  const findings: SizingFinding[] = [];
  for (const { name } of pins) {
    try {
      const signal = AbortSignal.timeout(STORE_TIMEOUT_MS);
      await using payload = await store.open(name, 'payload', signal);
      if (payload !== undefined) models.push({ name, payloadSizeBytes: payload.sizeBytes });
      else
        findings.push({
          severity: 'error',
          text: `The model ${name} is not where models come from. Put ${name}.sealed there.`,
        });
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      findings.push({ severity: 'warning', text: `The size of the model ${name} is not known: ${why}` });
    }
  }
  return { models, findings };
}
