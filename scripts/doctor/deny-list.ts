/** The deny list that the parent hands on, read as the enclave will read it. */
import { readFile } from 'node:fs/promises';
import type { ParentConfig } from '../../parent/config/config.ts';
import {
  DENY_LIST_MAX_BYTES,
  type DenyListFields,
  expectCurrent,
  openDenyList,
  parseDenyList,
  verifyDenyList,
} from '../../shared/deny-list/deny-list.ts';
import type { Deployment } from '../../shared/deployment/deployment.ts';
import { expiryOf, timeLeft } from '../../shared/expiry.ts';
import { expectFile } from '../input-file.ts';
import { type Check, type CheckGroup, messageOf, ok, problem, type Result, warning } from './check.ts';
import { actionOf } from './configuration.ts';
import type { World } from './world.ts';

export const denyListGroup: CheckGroup = {
  title: 'Deny list',
  checks: (world, { config, deployment }): readonly Check[] => {
    if (config === undefined) return [];
    const wanted = signerOf(deployment) !== undefined;
    if (config.denyListPath === undefined && !wanted) return [];
    return [
      {
        id: 'clients.deny-list',
        why: 'An enclave whose deployment names a signer serves nobody without a deny list that holds.',
        run: () => checkDenyList(world, config, deployment),
      },
    ];
  },
};

async function checkDenyList(
  world: World,
  { denyListPath: path }: ParentConfig,
  deployment: Deployment | undefined,
): Promise<Result> {
  if (path === undefined) {
    return problem(
      'the deployment names who signs deny lists, and the configuration names no list',
      'Have one signed with "strongroom deny-list sign", and name it as "denyList" in the configuration.',
    );
  }
  const signer = signerOf(deployment);
  const next = `Have the next one signed ("strongroom deny-list sign ${path} --key KEY"), and put it there; no restart is needed.`;
  try {
    await expectFile(path, DENY_LIST_MAX_BYTES);
    const bytes = await readFile(path);
    const at = new Date(world.now());
    if (signer === undefined)
      return notVerified(path, parseDenyList(openDenyList(bytes).payload), deployment);
    const list = verifyDenyList(bytes, signer);
    expectCurrent(list, at);
    const found = `${shown(path, list)}, signed by the deployment’s signer`;
    const { issuedAt: from, expiresAt: until } = list;
    if (expiryOf({ from, until }, at.getTime()).step === undefined) return ok(found);
    return warning(`${found}: ${timeLeft(until, at)} left`, next);
  } catch (error) {
    return problem(
      `${path}: ${messageOf(error)}`,
      `${actionOf(error, 'Check the path and its permissions.')} ${next}`,
    );
  }
}

/** Without the deployment nobody knows whose word the list has to be; with one that wants none, it is nobody's. */
function notVerified(path: string, list: DenyListFields, deployment: Deployment | undefined): Result {
  return deployment === undefined
    ? warning(
        `${shown(path, list)}; whether its signer is the right one was not checked`,
        'Correct the deployment first: it names the signer.',
      )
    : warning(
        `${shown(path, list)}; the deployment has no use for it`,
        'Take "denyList" out of the configuration, or name its signer in the next deployment (docs/deployment.md section 4).',
      );
}

function shown(path: string, { sequence, expiresAt, denied }: DenyListFields): string {
  return `${path}: list ${sequence}, until ${expiresAt.toISOString()}, denies ${denied.length}`;
}

function signerOf(deployment: Deployment | undefined) {
  const clients = deployment?.clients;
  return clients === undefined || clients === 'anyone' ? undefined : clients.denyListSigner;
}
