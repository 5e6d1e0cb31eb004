/**
 * First file of the engine's process. It confines the process and only then imports the engine itself
 * (`entry`), so that no native engine, and no code that an engine brings along, ever runs unconfined.
 */
import { pathToFileURL } from 'node:url';
import { guardEngineStart } from '../start-guard.ts';
import { CHANNEL_DESCRIPTOR, type EngineChannel, openChannel } from './channel.ts';
import { confineThisProcess } from './confinement.ts';
import { readFrameSync } from './frames.ts';
import { readStart } from './messages.ts';

/** What an engine's entry file exports. It returns when the supervisor has closed the channel. */
export type EngineRun = (channel: EngineChannel, options: { readonly threads: number }) => Promise<void>;

const frame = readFrameSync(CHANNEL_DESCRIPTOR);
if (frame !== undefined) {
  const channel = openChannel();
  try {
    const start = readStart(frame);
    guardEngineStart();
    await confineThisProcess();
    const { run } = (await import(pathToFileURL(start.entry).href)) as { readonly run: EngineRun };
    await run(channel, start);
  } catch (error) {
    channel.failed(error instanceof Error ? error.message : 'unknown error');
    process.exitCode = 1;
  }
}
