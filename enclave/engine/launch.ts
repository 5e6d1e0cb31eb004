/**
 * How an engine's process begins: it is checked, confined, and only then imports the engine itself, so that no
 * native engine, and no code that an engine brings along, ever runs unconfined.
 */
import { refuseUnsafeEngineStart } from '../start-guard.ts';
import { CHANNEL_DESCRIPTOR, type EngineChannel, openChannel } from './channel.ts';
import { confineThisProcess } from './confinement.ts';
import { readFrameSync } from './frames.ts';
import { readStart } from './messages.ts';

/** What an engine's module exports. `run` returns when the supervisor has closed the channel. */
export interface EngineModule {
  run(channel: EngineChannel, options: EngineStart): Promise<void>;
}

export interface EngineStart {
  readonly threads: number;
  /** The model's other files, in the order of their descriptors. */
  readonly external: readonly string[];
}

/** Waits for the supervisor's start message, then confines, loads and runs. Never rejects: it tells the supervisor. */
export async function runConfined(load: (start: EngineStart) => Promise<EngineModule>): Promise<void> {
  const channel = openChannel();
  try {
    const frame = readFrameSync(CHANNEL_DESCRIPTOR);
    if (frame === undefined) return;
    const { threads, external } = readStart(frame);
    refuseUnsafeEngineStart();
    await confineThisProcess();
    const start = { threads, external };
    const engine = await load(start);
    await engine.run(channel, start);
  } catch (error) {
    channel.failed(error instanceof Error ? error.message : 'unknown error');
    process.exitCode = 1;
  }
}
