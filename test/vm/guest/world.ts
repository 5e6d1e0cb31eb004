/**
 * The world outside a booted image: switched on by the machine before the image's init goes on, it watches the
 * enclave come up and end, and its own end is the end of the machine (test/vm/image/power-on.sh).
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { vsockLink } from '../../../link/vsock.ts';
import { check, codeOf, failedChecks } from './check.ts';
import { type MeasuredPcrs, type OwnersModel, startOutside } from './outside.ts';
import { checkRefusedImage } from './refused-image.ts';
import { checkServedImage } from './served-image.ts';

/** What the harness knows of the image that it boots. */
export interface BootedImage {
  readonly name: 'stand-in' | 'production';
  readonly pcrs: MeasuredPcrs;
  readonly commandLine: string;
  readonly model: OwnersModel;
}

const HOST_CID = 2;

const image = JSON.parse(readFileSync('/machine/image.json', 'utf8')) as BootedImage;
const outside = await startOutside(image.pcrs, image.model);
writeFileSync('/machine/on', 'on\n');
/** The exit code of the image's command, once it has ended. */
const ended = readFile('/machine/off', 'utf8').then(Number);

await check(`${image.name} image: init gets its sign of life from context id 3`, async () => {
  const early = ended.then((code) => assert.fail(`init ended with ${code}`));
  const heartbeat = outside.events.until(({ event }) => event === 'heartbeat');
  assert.equal((await Promise.race([heartbeat, early])).outcome, 'answered');
  const commandLine = readFileSync('/proc/cmdline', 'latin1').trim();
  assert.equal(commandLine, image.commandLine);
  return `kernel command line: ${commandLine}`;
});
if (image.name === 'production') {
  await checkRefusedImage(outside, ended);
  await check('link: a connection that nobody answers ends at its deadline', async () => {
    const dialled = vsockLink({ peerCid: HOST_CID }).dial(9_999, { timeoutMs: 300 });
    assert.equal(await codeOf(dialled), 'LINK_TIMEOUT');
    return 'to context id 2, where this machine’s device has nobody';
  });
} else {
  await checkServedImage(outside, ended);
}
process.exit(failedChecks() === 0 ? 0 : 1);
