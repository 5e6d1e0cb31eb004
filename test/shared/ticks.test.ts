/** What checks come to that are all made: a refusal is told before doubt, and a bug is no refusal. */
import { describe, expect, it } from 'vitest';
import { type ErrorTable, StrongroomError } from '../../shared/errors.ts';
import { Ticks } from '../../shared/ticks.ts';

const CHECKS = [
  { id: 'first', section: '1', step: 'whole', what: 'the first' },
  { id: 'second', section: '2', step: 'whole', what: 'the second' },
  { id: 'third', section: '3', step: 'signed', what: 'the third' },
] as const;

const TABLE = {
  REFUSED: { exit: 1, means: 'It is refused.', action: 'Stop.' },
  IN_DOUBT: { exit: 3, means: 'It cannot be decided.', action: 'Try again.' },
} satisfies ErrorTable;

class Fault extends StrongroomError<keyof typeof TABLE> {
  constructor(code: keyof typeof TABLE, message: string) {
    super(TABLE, code, message);
  }
}

const thrown = (error: unknown) => () => {
  throw error;
};
const refused = new Fault('REFUSED', 'no such thing');
const inDoubt = new Fault('IN_DOUBT', 'no answer');

describe('checks that are all made', () => {
  it('are listed in their own order, whatever the order in which they were made', () => {
    const ticks = new Ticks(CHECKS);
    ticks.notAsked('third', 'no key was given');
    expect(ticks.make('first', () => 7, String)).toBe(7);
    expect(ticks.results()).toEqual([
      {
        check: 'first',
        section: '1',
        step: 'whole',
        what: 'the first',
        outcome: 'passed',
        detail: '7',
        code: null,
      },
      {
        check: 'second',
        section: '2',
        step: 'whole',
        what: 'the second',
        outcome: 'not-reached',
        detail: '',
        code: null,
      },
      {
        check: 'third',
        section: '3',
        step: 'signed',
        what: 'the third',
        outcome: 'not-asked',
        detail: 'no key was given',
        code: null,
      },
    ]);
    expect(ticks.error).toBeUndefined();
    expect(CHECKS.map(({ id }) => ticks.has(id))).toEqual([true, false, false]);
  });

  it('tell a refusal before doubt, and the first of each', async () => {
    const ticks = new Ticks(CHECKS);
    expect(await ticks.makeAsync('first', thrown(inDoubt), String)).toBeUndefined();
    expect(ticks.error).toBe(inDoubt);
    expect(ticks.make('second', thrown(refused), String)).toBeUndefined();
    ticks.failed('third', new Fault('REFUSED', 'nor this'));
    expect(ticks.error).toBe(refused);
    expect(ticks.results().map(({ outcome, code, detail }) => [outcome, code, detail])).toEqual([
      ['undecided', 'IN_DOUBT', 'no answer'],
      ['failed', 'REFUSED', 'no such thing'],
      ['failed', 'REFUSED', 'nor this'],
    ]);
    expect(ticks.has('first')).toBe(false);
  });

  it('take a bug for no refusal', async () => {
    const ticks = new Ticks(CHECKS);
    const bug = new TypeError('x is undefined');
    expect(() => ticks.make('first', thrown(bug), String)).toThrow(bug);
    await expect(ticks.makeAsync('first', thrown(bug), String)).rejects.toBe(bug);
    expect(() => ticks.failed('first', bug)).toThrow(bug);
    expect(ticks.results()[0]?.outcome).toBe('not-reached');
  });
});
