import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Completion } from '../../../../enclave/engine/llama/completion.ts';
import type { GeneratedToken } from '../../../../enclave/engine/text.ts';

const bytes = (text: string): Uint8Array => Buffer.from(text);
const token = (text: string): GeneratedToken => ({ bytes: bytes(text), logprob: 0, top: [] });

/** All that comes out of tokens, and whether a stop string ended it. */
function run(stop: readonly string[], tokens: readonly Uint8Array[]): { text: string; stopped: boolean } {
  const completion = new Completion(stop);
  let text = '';
  for (const one of tokens) {
    const emitted = completion.push(one);
    text += emitted.text;
    if (emitted.stopped) return { text, stopped: true };
  }
  const last = completion.finish();
  return { text: text + last.text, stopped: last.stopped };
}

describe('a completion', () => {
  it('comes in whole characters', () => {
    const completion = new Completion([]);
    const [first, second] = [bytes('é').subarray(0, 1), bytes('é').subarray(1)];
    expect(completion.push(first).text).toBe('');
    expect(completion.push(second).text).toBe('é');
    expect(completion.push(first).text).toBe('');
    expect(completion.finish().text).toBe('\ufffd');
  });

  it('is the same for the same bytes, however they are cut into tokens', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 5 }), { maxLength: 12 }),
        fc.array(fc.string({ minLength: 1, maxLength: 3, unit: fc.constantFrom('a', 'b') }), {
          maxLength: 2,
        }),
        fc.string({ maxLength: 30, unit: fc.constantFrom('a', 'b', 'c', 'é') }),
        (noise, stop, text) => {
          const whole = Buffer.concat([bytes(text), ...noise]);
          const oneByOne = Array.from(whole, (byte) => Uint8Array.of(byte));
          expect(run(stop, oneByOne)).toEqual(run(stop, [whole]));
        },
      ),
      { numRuns: 1000 },
    );
  });

  it('ends before the first stop string, and contains none', () => {
    const letters = fc.constantFrom('a', 'b', 'c');
    fc.assert(
      fc.property(
        fc.array(fc.string({ minLength: 1, maxLength: 4, unit: letters }), { minLength: 1, maxLength: 3 }),
        fc.array(fc.string({ maxLength: 3, unit: letters }), { maxLength: 12 }),
        (stop, parts) => {
          const whole = parts.join('');
          const at = Math.min(...stop.map((one) => whole.indexOf(one)).filter((index) => index >= 0));
          const { text, stopped } = run(stop, parts.map(bytes));
          expect(stopped).toBe(at !== Infinity);
          if (!stopped) expect(text).toBe(whole);
          // Which stop string is complete first can end it later than where the earliest begins.
          else expect(whole.startsWith(text)).toBe(true);
          for (const one of stop) expect(text).not.toContain(one);
        },
      ),
    );
  });

  it('tells of tokens with their text, and of none beyond a stop string', () => {
    const completion = new Completion(['stop']);
    expect(completion.push(bytes('a s'), token('a s'))).toMatchObject({ text: 'a ', tokens: [token('a s')] });
    expect(completion.push(bytes('t'), token('t'))).toMatchObject({ text: '', tokens: [] });
    expect(completion.push(bytes('x'), token('x'))).toMatchObject({
      text: 'stx',
      tokens: [token('t'), token('x')],
    });
    expect(completion.push(bytes('st'), token('st'))).toMatchObject({ text: '', tokens: [] });
    expect(completion.push(bytes('op more'), token('op more'))).toEqual({
      text: '',
      tokens: [],
      stopped: true,
    });
  });

  it('tells of tokens that were held back when it ends', () => {
    const completion = new Completion(['stop']);
    expect(completion.push(bytes('st'), token('st')).text).toBe('');
    expect(completion.finish()).toEqual({ text: 'st', tokens: [token('st')], stopped: false });
  });
});
