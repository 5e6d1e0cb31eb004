/**
 * How an engine's process begins: it is checked, confined, and only then imports the engine itself, so that no
 * native engine, and no code that an engine brings along, ever runs unconfined.
 */
import { refuseUnsafeEngineStart } from '../start-guard.ts';
import { CHANNEL_DESCRIPTOR, tell } from './channel.ts';
import { confineThisProcess } from './confinement.ts';
import { readFrameSync } from './frames.ts';
import { readStart, type StartMessage } from './messages.ts';

/** What an engine's module exports. `run` resolves when the supervisor has closed the channel. */
export interface EngineModule {
  run(start: StartMessage): Promise<void>;
}

/** Waits for the supervisor's start message, then confines, loads and runs. Never rejects: it tells the supervisor. */
export async function runConfined(load: (start: StartMessage) => Promise<EngineModule>): Promise<void> {
  try {
    const frame = readFrameSync(CHANNEL_DESCRIPTOR);
    if (frame === undefined) return;
    const start = readStart(frame);
    refuseUnsafeEngineStart();
    await confineThisProcess();
    const engine = await load(start);
    await engine.run(start);
  } catch (error) {
    tell({ kind: 'failed', message: error instanceof Error ? error.message : 'unknown error' });
    process.exitCode = 1;
  }
}
