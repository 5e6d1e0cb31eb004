import { once } from 'node:events';
import type { CommandIo } from '../command.ts';

/** What moves the cursor, colours, or speaks to the terminal: everything of C0 and C1 but tab and line feed. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

/** Writes what a model said, no faster than it is taken. On a terminal a model gets to write text and nothing else. */
export async function writeSaid(stdout: CommandIo['stdout'], text: string): Promise<void> {
  const shown = stdout.isTTY === true ? text.replaceAll(CONTROLS, '\ufffd') : text;
  if (!stdout.write(shown)) await once(stdout, 'drain');
}
