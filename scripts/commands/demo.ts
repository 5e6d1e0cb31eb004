import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { LocalStack } from '../../simulator/local-stack.ts';
import type { Command, CommandIo } from '../command.ts';
import { Narrator } from '../demo/narrator.ts';
import { ATTACKS } from '../demo/refusals.ts';
import { tellStory } from '../demo/story.ts';
import { CommandError } from '../errors.ts';

const PROJECT = join(import.meta.dirname, '..', '..');

export const command: Command = {
  name: 'demo',
  summary: 'Run the whole story on one machine, then six attacks that are refused.',
  help: `
Usage: strongroom demo

Trains a small model, seals it, starts a simulated KMS, parent and enclave as separate processes, verifies the
enclave from a client and asks it; then attacks each link of the chain for real. Needs no AWS account and no
network, takes about half a minute, and leaves nothing behind, also when it is interrupted.

Example:
  strongroom demo

Exit codes: 0 the story ended well and every attack was refused, 1 an attack was not refused.
`,
  run: async (args, io) => {
    parseArgs({ args: [...args], options: {} });
    return runDemo(io);
  },
};

async function runDemo(io: CommandIo): Promise<number> {
  const narrator = new Narrator(io.stdout);
  narrator.title(
    'Strongroom: the whole story on one machine. The security module, KMS and vsock are simulated; the rest is real.',
  );
  const unrefused = await tellAndAttack(narrator, io.signal);
  if (unrefused.length === 0) return 0;
  throw new CommandError(
    'DEMO_NOT_REFUSED',
    `Expected every attack to be refused; not refused: ${unrefused.join(', ')}.`,
  );
}

/** Resolves to the attacks that were not refused. */
async function tellAndAttack(narrator: Narrator, signal: AbortSignal): Promise<readonly string[]> {
  const stack = await narrator.step('The image is laid out read-only and measured; KMS starts', () =>
    LocalStack.start({ projectFolder: PROJECT, now: () => new Date() }),
  );
  // An interrupt takes the processes away under the story, which then ends by itself, soon and for that reason.
  const interrupt = (): void => void stack.close().catch(() => {});
  signal.addEventListener('abort', interrupt);
  try {
    signal.throwIfAborted();
    return await story(stack, narrator, signal);
  } catch (error) {
    if (signal.aborted) throw new CommandError('INTERRUPTED', 'The demonstration was interrupted.', error);
    throw error;
  } finally {
    signal.removeEventListener('abort', interrupt);
    await stack.close();
  }
}

async function story(stack: LocalStack, narrator: Narrator, signal: AbortSignal): Promise<readonly string[]> {
  const told = await tellStory(stack, narrator);
  narrator.title('What is refused');
  const unrefused: string[] = [];
  for (const attack of ATTACKS) {
    const refusal = await attack.run(stack, told);
    signal.throwIfAborted();
    if (refusal?.code !== attack.expected) {
      unrefused.push(attack.name);
      narrator.text(`${attack.attempt}`);
      narrator.text(
        `  NOT STOPPED as it must be: expected ${attack.expected}, found ${refusal?.code ?? 'success'}`,
      );
    } else {
      narrator.refused(attack.attempt, refusal);
    }
  }
  const refused = ATTACKS.length - unrefused.length;
  narrator.title(
    `One verified answer, ${refused} of ${ATTACKS.length} attacks refused, in ${narrator.elapsedSeconds.toFixed(1)} s. Nothing is left behind.`,
  );
  return unrefused;
}
