/** What an engine has of its supervisor: inherited descriptors, and a socket pair to speak on. */
import { writeFrameSync } from './frames.ts';

/** Where the supervisor puts the channel and the model: descriptors inherited at the spawn. */
export const CHANNEL_DESCRIPTOR = 3;
export const MODEL_DESCRIPTOR = 4;
/** Of the first of the model's other files; the rest follow. */
export const FIRST_EXTERNAL_DESCRIPTOR = 5;

/** Says one thing to the supervisor, and waits until it has been taken. */
export function tell(header: object, body: readonly Uint8Array[] = []): void {
  writeFrameSync(CHANNEL_DESCRIPTOR, header, body);
}
