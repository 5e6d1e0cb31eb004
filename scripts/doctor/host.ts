/** The machine and the program that runs on it. */
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { type Check, type CheckGroup, ok, problem, type Result, undecided, warning } from './check.ts';
import { readText, type World } from './world.ts';

const NODE_MAJOR = 24;
/** Connections to callers, the enclave, KMS and model stores, at the defaults of docs/link.md section 6. */
const DESCRIPTORS_LEAST = 4_096;

export const hostGroup: CheckGroup = {
  title: 'Host',
  checks: (world): readonly Check[] => [
    {
      id: 'host.node',
      why: 'Strongroom runs its TypeScript as it stands, which needs the Node that it is tested with.',
      run: async () => checkNode(world),
    },
    {
      id: 'host.platform',
      why: 'Nitro Enclaves exist on Linux, on x86_64 and arm64.',
      run: async () => checkPlatform(world),
    },
    {
      id: 'host.ec2',
      why: 'Only an EC2 instance on the Nitro system, and not a bare-metal one, can have enclaves.',
      run: () => checkInstance(world),
    },
    {
      id: 'host.descriptors',
      why: 'Every caller takes two file descriptors, and every tunnel of the enclave two more.',
      run: () => checkDescriptors(world),
    },
    {
      id: 'host.memory',
      why: 'What the enclave does not take is left for the parent; without it the kernel ends the parent.',
      run: () => checkMemory(world),
    },
  ],
};

function checkNode({ node }: World): Result {
  const major = Number(node.version.split('.')[0]);
  if (major === NODE_MAJOR) return ok(`Node ${node.version}`);
  const action = 'Run npm ci in the project, which brings the pinned Node, and start strongroom through npx.';
  const found = `Node ${node.version}, expected ${NODE_MAJOR}.`;
  return major > NODE_MAJOR ? warning(found, action) : problem(found, action);
}

function checkPlatform({ node }: World): Result {
  const found = `${node.platform} ${node.architecture}`;
  if (node.platform === 'linux' && ['x64', 'arm64'].includes(node.architecture)) return ok(found);
  return problem(found, 'Use a Linux instance with x86_64 or arm64.');
}

/** The firmware says who made the machine, and EC2's says which instance type it is (EC2 User Guide, "Identify EC2 instances"). */
async function checkInstance(world: World): Promise<Result> {
  const vendor = (await readText(world, 'sys/devices/virtual/dmi/id/sys_vendor'))?.trim();
  const product = (await readText(world, 'sys/devices/virtual/dmi/id/product_name'))?.trim() ?? 'unknown';
  if (vendor !== 'Amazon EC2') {
    // Whoever hides the firmware (a container) may still have given the device.
    if (vendor === undefined && (await hasDevice(world)))
      return undecided('The firmware cannot be read here.');
    const named = vendor === undefined ? 'nobody' : JSON.stringify(vendor.slice(0, 80));
    return problem(
      `This is no EC2 instance on the Nitro system: as its maker the firmware names ${named}.`,
      'Run doctor on the parent instance. Without one, strongroom simulate runs everything on this machine.',
    );
  }
  if (/\.metal(-|$)/.test(product)) {
    return problem(`A bare-metal instance, ${product}.`, 'Choose a virtualised instance type.');
  }
  return ok(`EC2 instance of type ${product}`);
}

function hasDevice({ root }: World): Promise<boolean> {
  return access(join(root, 'dev/nitro_enclaves')).then(
    () => true,
    () => false,
  );
}

async function checkDescriptors(world: World): Promise<Result> {
  const limits = await readText(world, 'proc/self/limits');
  const [, soft, hard] = /^Max open files\s+(\d+|unlimited)\s+(\d+|unlimited)/m.exec(limits ?? '') ?? [];
  if (soft === undefined || hard === undefined) return undecided('The kernel does not say the limit.');
  const most = hard === 'unlimited' ? Number.POSITIVE_INFINITY : Number(hard);
  // Node raises the soft limit to the hard one when it starts.
  if (most >= DESCRIPTORS_LEAST) return ok(`at most ${hard} open files here`);
  return warning(
    `At most ${hard} open files here, ${DESCRIPTORS_LEAST} are wanted.`,
    'Set LimitNOFILE=65536 in the systemd unit, or raise the hard limit with ulimit -Hn.',
  );
}

const MEMORY_LEAST_MIB = 512;

async function checkMemory(world: World): Promise<Result> {
  const memory = (await readText(world, 'proc/meminfo')) ?? '';
  const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(memory)?.[1];
  if (kib === undefined) return undecided('The kernel does not say how much memory is available.');
  const mib = Math.floor(Number(kib) / 1024);
  if (mib >= MEMORY_LEAST_MIB) return ok(`${mib} MiB available to the parent`);
  return warning(
    `${mib} MiB are available to the parent, ${MEMORY_LEAST_MIB} are wanted.`,
    'Lower memory_mib of the allocator, end other programs, or choose a larger instance.',
  );
}
