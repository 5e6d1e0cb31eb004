/** The process that is /dev/nsm: the software NSM behind a character device. */
import { NSM_IOCTL } from '../../../enclave/nsm/device.ts';
import { decodeNsmRequest, encodeNsmResponse } from '../../../shared/nsm/device-side.ts';
import { createSimulatedCa } from '../../../simulator/nsm/ca.ts';
import { newModuleId } from '../../../simulator/nsm/identity.ts';
import { SoftwareNsm } from '../../../simulator/nsm/software-nsm.ts';
import { type IoctlAnswer, serveCharacterDevice } from './cuse.ts';
import { givenArgument, tell } from './helper.ts';
import { type DeviceOptions, type DeviceReady, FAULT, type Fault } from './nsm-fault.ts';

const EINVAL = 22;
/** Long enough that a second request would be seen while the first is being served. */
const SERVICE_MS = 10;

const { handle, ready } = await softwareNsm(givenArgument<DeviceOptions>());
const counts = { served: 0, atOnce: 0, mostAtOnce: 0 };
const kinds: string[] = [];

await serveCharacterDevice('nsm', async (command, request) => {
  counts.atOnce += 1;
  counts.mostAtOnce = Math.max(counts.mostAtOnce, counts.atOnce);
  try {
    await new Promise((resolve) => setTimeout(resolve, SERVICE_MS));
    counts.served += 1;
    if (command !== NSM_IOCTL) return { errno: EINVAL };
    const text = Buffer.from(request).toString('latin1');
    if (text.startsWith(FAULT)) return await fault(JSON.parse(text.slice(FAULT.length)));
    kinds.push(kindOf(request));
    return { response: await handle(request) };
  } finally {
    counts.atOnce -= 1;
  }
});
tell(ready);

type Handle = (request: Uint8Array) => Promise<Uint8Array>;

async function softwareNsm({
  region,
  instanceId,
  pcrs,
}: DeviceOptions): Promise<{ handle: Handle; ready: DeviceReady }> {
  const now = new Date();
  const ca = await createSimulatedCa({ region, now });
  const bytesOf = (hex: string): Uint8Array => Buffer.from(hex, 'hex');
  const nsm = await SoftwareNsm.create({
    ca,
    moduleId: newModuleId(instanceId, now),
    pcrs: { 0: bytesOf(pcrs[0]), 1: bytesOf(pcrs[1]), 2: bytesOf(pcrs[2]), 3: bytesOf(pcrs[3]) },
    now: () => new Date(),
  });
  return {
    handle: (request) => nsm.handle(request),
    ready: { rootPem: ca.rootPem, moduleId: nsm.moduleId },
  };
}

function kindOf(request: Uint8Array): string {
  try {
    return decodeNsmRequest(request).kind;
  } catch {
    return 'malformed';
  }
}

async function fault({
  errno,
  error,
  reportedLength,
  delayMs = 0,
  counts: countsWanted,
  kinds: kindsWanted,
}: Fault): Promise<IoctlAnswer> {
  await new Promise((resolve) => setTimeout(resolve, delayMs));
  if (errno !== undefined) return { errno };
  const wanted = countsWanted ? counts : kindsWanted ? kinds : undefined;
  const response = wanted
    ? Buffer.from(JSON.stringify(wanted))
    : encodeNsmResponse(error === undefined ? { kind: 'LockPCR' } : { kind: 'Error', error });
  return { response, ...(reportedLength === undefined ? {} : { reportedLength }) };
}
