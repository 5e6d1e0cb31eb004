import { describe, expect, it } from 'vitest';
import { interleaved, sharedLookups } from '../../parent/egress/resolve.ts';

describe('a name with several addresses', () => {
  it('is tried in turns of the families, beginning with the first', () => {
    expect(interleaved(['2001:db8::1', '2001:db8::2', '2001:db8::3', '192.0.2.1', '192.0.2.2'])).toEqual([
      '2001:db8::1',
      '192.0.2.1',
      '2001:db8::2',
      '192.0.2.2',
      '2001:db8::3',
    ]);
    expect(interleaved(['192.0.2.1', '2001:db8::1'])).toEqual(['192.0.2.1', '2001:db8::1']);
    expect(interleaved(['192.0.2.1', '192.0.2.2'])).toEqual(['192.0.2.1', '192.0.2.2']);
    expect(interleaved([])).toEqual([]);
  });
});

describe('look-ups of a name', () => {
  it('that come together are one, so that a name server that hangs does not take all threads', async () => {
    const asked: string[] = [];
    const answer = Promise.withResolvers<string[]>();
    const resolve = sharedLookups((host) => {
      asked.push(host);
      return answer.promise;
    });
    const tunnels = [resolve('a.test'), resolve('a.test'), resolve('b.test')];
    expect(asked).toEqual(['a.test', 'b.test']);
    answer.resolve(['192.0.2.1']);
    expect(await Promise.all(tunnels)).toEqual([['192.0.2.1'], ['192.0.2.1'], ['192.0.2.1']]);
  });

  it('that come later ask again, also after a failure', async () => {
    let asked = 0;
    const resolve = sharedLookups(async () => {
      asked += 1;
      if (asked === 1) throw new Error('SERVFAIL');
      return ['192.0.2.1'];
    });
    await expect(resolve('a.test')).rejects.toThrow('SERVFAIL');
    expect(await resolve('a.test')).toEqual(['192.0.2.1']);
    expect(asked).toBe(2);
  });
});
