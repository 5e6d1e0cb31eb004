/**
 * Loaded first (`node --import`) into a process of the local stack that is not of the simulator's making. Its
 * standard input is a pipe from whoever started it: when that ends, however it ends, so does this process.
 */
import type { Socket } from 'node:net';

const lifeline = process.stdin as Socket;
lifeline.once('close', () => process.exit(0));
lifeline.resume();
// No reason for the process to stay once its own work is done.
lifeline.unref();
