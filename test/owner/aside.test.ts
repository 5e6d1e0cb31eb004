import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Aside } from '../../owner/aside.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sr-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

it('of two that publish at one moment, the loser leaves neither its folder nor its recovery wrap', async () => {
  for (let round = 0; round < 20; round++) {
    const out = join(folder, `${round}.sealed`);
    const wrap = `${out}.recovery.json`;
    const both = await Promise.all(['a', 'b'].map(() => Aside.create(out, [wrap])));
    for (const [index, aside] of both.entries()) {
      await aside.writeFile('head', Buffer.from(`seal ${index}`));
      await aside.writeCompanion(wrap, Buffer.from(`seal ${index}`));
    }
    const ended = await Promise.allSettled(both.map((aside) => aside.publish()));
    for (const aside of both) await aside[Symbol.asyncDispose]();
    const winner = ended.findIndex(({ status }) => status === 'fulfilled');
    expect(ended[1 - winner]).toMatchObject({ reason: { code: 'OWNER_WOULD_OVERWRITE' } });
    expect(readFileSync(join(out, 'head'), 'utf8')).toBe(`seal ${winner}`);
    expect(readFileSync(wrap, 'utf8')).toBe(`seal ${winner}`);
    rmSync(out, { recursive: true });
    rmSync(wrap);
    expect(readdirSync(folder)).toEqual([]);
  }
});
