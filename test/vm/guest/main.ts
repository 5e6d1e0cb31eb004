/** Everything that is checked inside the virtual machine, in order. */
import { failedChecks } from './check.ts';
import { checkLink } from './link.ts';
import { checkNsm } from './nsm.ts';

const BULK_BYTES = 128 << 20;

await checkLink(BULK_BYTES);
await checkNsm();
process.exit(failedChecks() === 0 ? 0 : 1);
