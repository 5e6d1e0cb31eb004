import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { writeFileAside } from '../../owner/aside-file.ts';
import { exchange, renameNew } from '../../owner/rename.ts';
import { canTrace, refusing } from './kills.ts';

let folder = '';
const at = (name: string): string => join(folder, name);
const text = (name: string): string => readFileSync(at(name), 'utf8');
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'strongroom-rename-'));
  writeFileSync(at('one'), 'one');
  writeFileSync(at('other'), 'other');
  mkdirSync(at('folder'));
  writeFileSync(at('folder/file'), 'inside');
  mkdirSync(at('empty'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const RENAME = join(import.meta.dirname, '../../owner/rename.ts');
const REFUSED = { code: 'OWNER_WOULD_OVERWRITE' };

/** What `code` prints where the kernel refuses these calls. */
function refused(calls: Readonly<Record<string, string>>, code: string): string {
  const [command = '', ...args] = [...refusing(calls), process.execPath];
  const script = `import { exchange, renameNew } from ${JSON.stringify(RENAME)};
    const says = (done) => done.then((value) => console.log(value ?? 'done'), (error) => console.log(error.code));
    ${code}`;
  const options = { cwd: folder, encoding: 'utf8' } as const;
  return execFileSync(command, [...args, '--input-type=module-typescript', '-e', script], options).trim();
}

describe('a rename that replaces nothing', () => {
  it.each(['one', 'folder'])('gives %s a name that is free', async (name) => {
    await renameNew(at(name), at('new'));
    expect(existsSync(at(name))).toBe(false);
    expect(name === 'one' ? text('new') : text('new/file')).toBe(name === 'one' ? 'one' : 'inside');
  });

  it.each([
    ['one', 'other'],
    ['one', 'folder'],
    ['folder', 'other'],
    ['folder', 'empty'],
  ])('refuses %s the name of %s', async (from, to) => {
    await expect(renameNew(at(from), at(to))).rejects.toMatchObject(REFUSED);
    expect(readdirSync(folder).sort()).toEqual(['empty', 'folder', 'one', 'other']);
    expect(text('other')).toBe('other');
  });

  it('says what is wrong with a path in the terms of the file system', async () => {
    await expect(renameNew(at('none'), at('new'))).rejects.toMatchObject({
      code: 'ENOENT',
    });
  });

  it('lets one of many that write the same file win, whole, and refuses all others', async () => {
    const ready = Promise.withResolvers<void>();
    let waiting = 0;
    const outcomes = await Promise.allSettled(
      Array.from({ length: 12 }, (_, index) =>
        writeFileAside({ path: at('result'), mode: 0o644 }, async (file) => {
          await file.writeFile(`by ${index}`);
          if (++waiting === 12) ready.resolve(); // all of them have found the name free
          await ready.promise;
          return index;
        }),
      ),
    );
    const won = outcomes.filter((outcome) => outcome.status === 'fulfilled');
    expect(won).toHaveLength(1);
    expect(text('result')).toBe(`by ${won[0]?.value}`);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject(REFUSED);
    }
    expect(readdirSync(folder).filter((name) => name.includes('partial'))).toEqual([]);
  });
});

describe('an exchange', () => {
  it('swaps two folders, or a file and a folder', async () => {
    expect(await exchange(at('folder'), at('empty'))).toBeUndefined();
    expect([readdirSync(at('folder')), text('empty/file')]).toEqual([[], 'inside']);
    expect(await exchange(at('one'), at('empty'))).toBeUndefined();
    expect([text('one/file'), text('empty')]).toEqual(['inside', 'one']);
  });

  it('says that one of the two is not there', async () => {
    expect(await exchange(at('one'), at('none'))).toBe('ENOENT');
  });
});

describe.runIf(canTrace)(
  `where the file system can do less${canTrace ? '' : ' (skipped: needs strace)'}`,
  () => {
    it.each([
      ['no links', { '?link,linkat': 'EPERM' }],
      ['no links and no flags', { '?link,linkat': 'EPERM', renameat2: 'EINVAL' }],
    ])('with %s a file is still given a name only if that is free', (_, calls) => {
      expect(refused(calls, "await says(renameNew('one', 'other'))")).toBe('OWNER_WOULD_OVERWRITE');
      expect(refused(calls, "await says(renameNew('one', 'new'))")).toBe('done');
      expect([text('new'), existsSync(at('one')), text('other')]).toEqual(['one', false, 'other']);
    });

    it('without flags nothing is exchanged', () => {
      expect(refused({ renameat2: 'EINVAL' }, "await says(exchange('one', 'other'))")).toBe('EINVAL');
      expect([text('one'), text('other')]).toEqual(['one', 'other']);
    });
  },
);
