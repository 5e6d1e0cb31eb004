/** What makes an instance able to have enclaves: driver, device, group, nitro-cli. */
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { nitroCli } from '../../parent/nitro/nitro-cli.ts';
import { runProgram } from '../../parent/nitro/program.ts';
import {
  type Check,
  type CheckGroup,
  type Known,
  messageOf,
  ok,
  problem,
  type Result,
  undecided,
  warning,
} from './check.ts';
import { actionOf } from './configuration.ts';
import { readText, type World } from './world.ts';

const INSTALL = 'sudo dnf install aws-nitro-enclaves-cli (Amazon Linux 2023)';
const JOIN = 'sudo usermod -aG ne USER, then log in again; the systemd unit runs as its own user';
const PROGRAM_TIMEOUT_MS = 10_000;

export const nitroGroup: CheckGroup = {
  title: 'Nitro Enclaves',
  checks: (world, known): readonly Check[] => [
    {
      id: 'nitro.module',
      why: 'The kernel module nitro_enclaves takes CPUs and memory from this host and gives them to an enclave.',
      needs: ['host.ec2'],
      run: () => checkModule(world),
    },
    {
      id: 'nitro.device',
      why: 'Enclaves are made through /dev/nitro_enclaves, which the driver offers where the instance allows them.',
      needs: ['host.ec2'],
      run: () => checkDevice(world),
    },
    {
      id: 'nitro.group',
      why: 'Device, sockets and logs of nitro-cli belong to the group "ne".',
      needs: ['host.ec2'],
      run: () => checkGroup(world),
    },
    {
      id: 'nitro.cli',
      why: 'The parent starts and ends the enclave with it.',
      needs: ['host.ec2'],
      run: () => checkCli(world, known),
    },
    {
      id: 'nitro.enclaves',
      why: 'What runs already holds CPUs, memory and a context id.',
      needs: ['nitro.cli', 'nitro.device'],
      run: () => checkEnclaves(world, known),
    },
  ],
};

async function checkModule({ root }: World): Promise<Result> {
  try {
    await access(join(root, 'sys/module/nitro_enclaves'));
    return ok('nitro_enclaves is loaded');
  } catch {
    return problem(
      'The module nitro_enclaves is not loaded.',
      `sudo modprobe nitro_enclaves; if there is none: ${INSTALL}, or a kernel from 5.10 on (arm64: 5.16).`,
    );
  }
}

async function checkDevice(world: World): Promise<Result> {
  const failure = await world.openDevice(join(world.root, 'dev/nitro_enclaves'));
  if (failure === undefined) return ok('/dev/nitro_enclaves can be opened');
  if (failure === 'EACCES' || failure === 'EPERM') {
    return problem(`/dev/nitro_enclaves may not be opened by this user: ${failure}.`, `${JOIN}.`);
  }
  if (failure !== 'ENOENT') return undecided(`/dev/nitro_enclaves cannot be opened: ${failure}.`);
  return problem(
    '/dev/nitro_enclaves does not exist.',
    'Load the module; if it is loaded, launch an instance with enclaves enabled (aws ec2 run-instances --enclave-options Enabled=true, or "Nitro Enclaves" under advanced details).',
  );
}

async function checkGroup(world: World): Promise<Result> {
  const groups = (await readText(world, 'etc/group')) ?? '';
  const id = /^ne:[^:]*:(\d+):/m.exec(groups)?.[1];
  if (id === undefined) return problem('There is no group "ne".', `${INSTALL}; its package makes the group.`);
  if (world.user.id === 0) return ok('this user is root');
  if (world.user.groups.includes(Number(id))) return ok('this user is in "ne"');
  return warning('This user is not in the group "ne".', `${JOIN}.`);
}

async function checkCli(world: World, known: Known): Promise<Result> {
  const program = programOf(world, known);
  try {
    const { status, stdout } = await runProgram(program, ['--version'], { timeoutMs: PROGRAM_TIMEOUT_MS });
    const said = Buffer.from(stdout).toString('utf8').trim().slice(0, 80);
    const version = /\b(\d+)\.(\d+)\.(\d+)\b/.exec(said);
    if (status !== 0 || version === null) {
      return problem(
        `${program} --version: expected a version, found ${JSON.stringify(said)}.`,
        `${INSTALL}.`,
      );
    }
    // Enclaves have names, by which a parent finds its own again, since 1.1.0.
    if (Number(version[1]) === 1 && Number(version[2]) < 1) {
      return problem(`${said}, expected 1.1.0 or newer.`, 'Install a current aws-nitro-enclaves-cli.');
    }
    return ok(said);
  } catch (error) {
    return problem(messageOf(error), `${INSTALL}, or name the program in enclave.program.`);
  }
}

const UNREACHED = 'nitro-cli does not reach an enclave that it knows of, which may hold CPUs and memory.';

async function checkEnclaves(world: World, known: Known): Promise<Result> {
  try {
    const { enclaves, complete } = await nitroCli(programOf(world, known), {
      timeoutMs: PROGRAM_TIMEOUT_MS,
    }).describe();
    if (!complete)
      return problem(UNREACHED, 'Look at /var/log/nitro_enclaves, and end its process nitro-cli.');
    if (enclaves.length === 0) return ok('none runs');
    const shown = enclaves.map(
      ({ name, cid, state, flags }) => `${name} (context id ${cid}, ${state}, ${flags})`,
    );
    const found = `Running: ${shown.join('; ')}.`;
    const { enclave, link } = known.config ?? {};
    const ours = enclave?.kind === 'nitro-cli' ? enclave.name : undefined;
    const taken = enclaves.find(
      ({ name, cid }) => link?.kind === 'vsock' && cid === link.enclaveCid && name !== ours,
    );
    if (taken !== undefined) {
      return problem(
        `${found} ${taken.name} has the context id of the configuration.`,
        `Choose another link.enclaveCid, or end it: nitro-cli terminate-enclave --enclave-id ${taken.id}`,
      );
    }
    if (enclaves.some(({ flags }) => flags.includes('DEBUG'))) {
      return warning(
        found,
        'End the enclave in debug mode: its memory is open to this host, and KMS refuses it.',
      );
    }
    return ok(found);
  } catch (error) {
    return problem(messageOf(error), actionOf(error, 'Look at /var/log/nitro_enclaves.'));
  }
}

function programOf(world: World, { config }: Known): string {
  return config?.enclave?.kind === 'nitro-cli' ? config.enclave.program : world.nitroCli;
}
