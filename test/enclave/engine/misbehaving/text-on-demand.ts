/** A text engine that misbehaves as its prompt says; the first text stands for the others where vectors are wanted. */
import { writeSync } from 'node:fs';
import { CHANNEL_DESCRIPTOR, tell } from '../../../../enclave/engine/channel.ts';
import { readFrameSync } from '../../../../enclave/engine/frames.ts';
import {
  INITIAL_CREDIT,
  packAnswer,
  readQuestion,
  type TextAnswer,
} from '../../../../enclave/engine/text-messages.ts';

readFrameSync(CHANNEL_DESCRIPTOR);
tell({
  kind: 'ready',
  architecture: 'hostile',
  contextTokens: 100,
  sequences: 2,
  chat: false,
  vectorSize: 2,
});
const say = (answer: TextAnswer): void => {
  const { header, body } = packAnswer(answer);
  tell(header, body);
};
const text = (id: number, content = 'x'): void => say({ kind: 'text', id, text: content });
const end = (id: number, completionTokens = 1): void =>
  say({ kind: 'end', id, reason: 'stop', promptTokens: 1, completionTokens });

for (let frame = readFrameSync(3); frame !== undefined; frame = readFrameSync(3)) {
  const question = readQuestion(frame);
  const { id } = question;
  if (question.kind === 'cancel') say({ kind: 'cancelled', id });
  if (question.kind !== 'generate' && question.kind !== 'embed') continue;
  const behaviour =
    question.kind === 'embed'
      ? question.texts[0]
      : question.request.prompt.kind === 'text'
        ? question.request.prompt.text
        : '';
  switch (behaviour) {
    case 'exit':
      process.exit(3);
      break;
    case 'hang':
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
      break;
    case 'silence':
      break;
    case 'huge frame':
      writeSync(CHANNEL_DESCRIPTOR, Buffer.alloc(8, 0xff));
      break;
    case 'not JSON':
      tell('text' as unknown as object);
      break;
    case 'flood':
      for (let count = 0; count < INITIAL_CREDIT + 2; count += 1) text(id);
      break;
    case 'never ends':
      for (;;) say({ kind: 'working', id });
    case 'more text than tokens':
      for (let count = 0; count < 5; count += 1) text(id);
      break;
    case 'another id':
      text(id + 1000);
      break;
    case 'no id':
      tell({ kind: 'text', text: 'x' });
      break;
    case 'unknown kind':
      tell({ kind: 'shell', id });
      break;
    case 'huge text':
      text(id, 'x'.repeat(64 * 1024 + 1));
      break;
    case 'half a character':
      text(id, '\ud800');
      break;
    case 'a body':
      tell({ kind: 'text', id, text: 'x' }, [new Uint8Array(1)]);
      break;
    case 'tokens unasked':
      say({ kind: 'text', id, text: 'x', tokens: [] });
      break;
    case 'end for no reason':
      tell({ kind: 'end', id, reason: 'bored', promptTokens: 1, completionTokens: 1 });
      break;
    case 'too many tokens':
      end(id, 101);
      break;
    case 'more tokens than wanted':
      end(id, 4);
      break;
    case 'end twice':
      end(id);
      end(id);
      break;
    case 'cancelled':
      say({ kind: 'cancelled', id });
      break;
    case 'vectors for a prompt':
      say({ kind: 'vectors', id, vectors: [], promptTokens: 1 });
      break;
    case 'text for vectors':
      text(id);
      break;
    case 'too few vectors':
      say({ kind: 'vectors', id, vectors: [Float32Array.of(1, 0)], promptTokens: 1 });
      break;
    case 'short vectors':
      say({ kind: 'vectors', id, vectors: [Float32Array.of(1), Float32Array.of(1)], promptTokens: 1 });
      break;
    case 'no vectors':
      say({
        kind: 'vectors',
        id,
        vectors: [Float32Array.of(NaN, 0), Float32Array.of(1, 0)],
        promptTokens: 1,
      });
      break;
    case 'failed':
      tell({ kind: 'failed', message: 'out of memory' });
      break;
    case 'reject':
      say({ kind: 'rejected', id, message: `no\u001b[31m${'x'.repeat(5000)}` });
      break;
    default:
      if (question.kind === 'embed') {
        say({
          kind: 'vectors',
          id,
          vectors: question.texts.map(() => Float32Array.of(0, 1)),
          promptTokens: 9,
        });
      } else {
        text(id, String(process.pid));
        end(id);
      }
  }
}
