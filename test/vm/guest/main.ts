/** What is checked of vsock and NSM device, in order. The boot is checked from images: world.ts. */
import { failedChecks } from './check.ts';
import { checkLink } from './link.ts';
import { checkNsm } from './nsm.ts';

const BULK_BYTES = 64 << 20;

await checkLink(BULK_BYTES);
await checkNsm();
process.exit(failedChecks() === 0 ? 0 : 1);
