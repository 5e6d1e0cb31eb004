/** Everything that is checked inside the virtual machine, in order. */
import { checkBoot } from './boot.ts';
import { failedChecks } from './check.ts';
import { checkLink } from './link.ts';
import { checkNsm } from './nsm.ts';

const BULK_BYTES = 64 << 20;

await checkLink(BULK_BYTES);
await checkNsm();
await checkBoot();
process.exit(failedChecks() === 0 ? 0 : 1);
