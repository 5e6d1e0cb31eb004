/** What the parent is told to do, and what it is given to hand to the enclave. */
import { readParentConfig } from '../../parent/config/config.ts';
import { StrongroomError } from '../../shared/errors.ts';
import { readDeploymentFile } from '../deployment-file.ts';
import {
  type Check,
  type CheckGroup,
  type Known,
  messageOf,
  ok,
  problem,
  type Result,
  skipped,
} from './check.ts';
import type { World } from './world.ts';

export const configurationGroup: CheckGroup = {
  title: 'Configuration',
  checks: (world, known): readonly Check[] => [
    {
      id: 'config',
      why: 'The parent starts with nothing but a configuration that it understands to the last member.',
      run: () => checkConfig(world, known),
    },
    {
      id: 'deployment',
      why: 'The enclave measures this document and refuses to start with one that it cannot read.',
      needs: ['config'],
      run: () => checkDeployment(known),
    },
  ],
};

async function checkConfig({ configPath }: World, known: Known): Promise<Result> {
  if (configPath === undefined) return skipped('Give --config FILE to check what the parent is to do.');
  try {
    known.config = await readParentConfig(configPath);
    return ok(configPath);
  } catch (error) {
    return problem(messageOf(error), actionOf(error, 'Check the path and its permissions.'));
  }
}

async function checkDeployment(known: Known): Promise<Result> {
  const path = known.config?.deploymentPath ?? '';
  try {
    const { deployment } = await readDeploymentFile(path);
    known.deployment = deployment;
    return ok(`${path}: ${deployment.models.map(({ name }) => name).join(', ')}`);
  } catch (error) {
    return problem(messageOf(error), actionOf(error, 'Check the path and its permissions.'));
  }
}

export function actionOf(error: unknown, otherwise: string): string {
  return error instanceof StrongroomError ? error.action : otherwise;
}
