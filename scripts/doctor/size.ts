/** Whether the enclave, as configured, can hold its image and models: the sum that `strongroom run` makes too. */
import { join } from 'node:path';
import type { ParentConfig } from '../../parent/config/config.ts';
import type { NitroCliConfig } from '../../parent/config/enclave.ts';
import { checkEnclave } from '../../parent/nitro/check.ts';
import { readHostFacts } from '../../parent/nitro/host-facts.ts';
import { fileStream } from '../../review/image/eif/file-stream.ts';
import { measureEif } from '../../review/image/eif/measure-eif.ts';
import { type Check, type CheckGroup, messageOf, ok, problem, type Result, warning } from './check.ts';
import { actionOf } from './configuration.ts';
import { storeOf } from './models.ts';
import type { World } from './world.ts';

export const sizeGroup: CheckGroup = {
  title: 'Image and size',
  checks: (world, { config }): readonly Check[] => {
    const enclave = config?.enclave;
    if (config === undefined || enclave?.kind !== 'nitro-cli') return [];
    return [
      {
        id: 'image.file',
        why: 'The enclave runs this file, and KMS releases keys to its measurement alone.',
        run: () => checkImage(world, enclave),
      },
      {
        id: 'enclave.size',
        why: 'An enclave that is too small starts, fetches everything, and is ended by its kernel without a word.',
        needs: ['image.file', 'deployment'],
        run: () => checkSize(world, config, enclave),
      },
    ];
  },
};

async function checkImage(world: World, { image, pcr0 }: NitroCliConfig): Promise<Result> {
  try {
    const { measurements } = await measureEif(fileStream(image), { at: new Date(world.now()) });
    const found = Buffer.from(measurements.pcr0).toString('hex');
    if (pcr0 !== undefined && pcr0 !== found) {
      return problem(
        `${image}: expected PCR0 ${pcr0}, found ${found}.`,
        'Put the released image in place, or correct enclave.pcr0 after a review.',
      );
    }
    return ok(`${image}: PCR0 ${found}`);
  } catch (error) {
    return problem(messageOf(error), actionOf(error, 'Check enclave.image and its permissions.'));
  }
}

async function checkSize(world: World, config: ParentConfig, enclave: NitroCliConfig): Promise<Result> {
  const store = storeOf(world, config);
  try {
    const host = await readHostFacts(join(world.root, 'sys'));
    const { neededMib, findings } = await checkEnclave(config, enclave, { store, host });
    const found = `${neededMib} MiB needed, ${enclave.memoryMib} MiB given`;
    if (findings.length === 0) return ok(found);
    const texts = findings.map(({ text }) => text).join(' ');
    const action = 'strongroom run --check shows the whole sum.';
    const judge = findings.some(({ severity }) => severity === 'error') ? problem : warning;
    return judge(`${found}. ${texts}`, action);
  } catch (error) {
    return problem(messageOf(error), actionOf(error, 'Check what the message names.'));
  } finally {
    store.close();
  }
}
