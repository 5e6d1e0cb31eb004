import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createFolder, readFolder } from '../../../owner/certificates/folder.ts';
import { issueCertificate } from '../../../owner/certificates/issue.ts';
import { serverName, spiffeId } from '../../../owner/certificates/names.ts';
import { main } from '../../../scripts/strongroom.ts';
import { DAY_MS } from '../../owner/certificates/support.ts';

let folder = '';
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strongroom-cert-'));
  await cert(
    'ca',
    '--permit',
    'models.example.org',
    '--permit',
    'spiffe://models.example.org',
    '-o',
    at('ca'),
  );
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const at = (name: string) => join(folder, name);

async function cert(...args: string[]) {
  let [stdout, stderr] = ['', ''];
  const sink = (take: (text: string) => void) =>
    new Writable({
      write: (chunk, _encoding, done) => {
        take(String(chunk));
        done();
      },
    });
  const exit = await main(['cert', ...args], {
    stdin: process.stdin,
    stdout: sink((text) => {
      stdout += text;
    }),
    stderr: sink((text) => {
      stderr += text;
    }),
    signal: new AbortController().signal,
  });
  return { exit, stdout, stderr };
}

/** A server's certificate that ends so many days from now, and two hours. */
async function ending(name: string, days: number, issuedDaysAgo = 60): Promise<string> {
  const issued = new Date(Date.now() - issuedDaysAgo * DAY_MS + 2 * 3_600_000);
  const names = [serverName('models.example.org')] as const;
  const life = { at: issued, days: days + issuedDaysAgo };
  const pair = issueCertificate(await readFolder(at('ca')), {
    ...life,
    use: 'server',
    names: [names[0]],
    curve: 'P-256',
  });
  await createFolder(at(name), pair);
  return at(name);
}

describe('strongroom cert issue', () => {
  it('issues to a server', async () => {
    const done = await cert(
      'issue',
      '--ca',
      at('ca'),
      '--server',
      'a.models.example.org',
      '-o',
      at('a'),
      '--json',
    );
    expect(done.exit).toBe(0);
    expect(JSON.parse(done.stdout)).toMatchObject({
      folder: at('a'),
      use: 'server',
      names: ['a.models.example.org'],
    });
    const again = await cert('issue', '--ca', at('ca'), '--server', 'a.models.example.org', '-o', at('a'));
    expect(again).toMatchObject({ exit: 2, stderr: expect.stringContaining('OWNER_WOULD_OVERWRITE') });
  });

  it('gives a client of a trust domain a random name', async () => {
    const done = await cert(
      'issue',
      '--ca',
      at('ca'),
      '--client',
      'spiffe://models.example.org',
      '-o',
      at('c1'),
    );
    expect(done.stdout).toMatch(/client certificate for spiffe:\/\/models\.example\.org\/[0-9a-f]{32} in/);
  });

  it.each([
    [['--server', 'example.com'], 1, 'CERT_NOT_PERMITTED'],
    [['--client', 'spiffe://example.com/x'], 1, 'CERT_NOT_PERMITTED'],
    [['--client', 'example.com'], 2, 'CERT_NAME_UNUSABLE'],
    [['--server', 'models.example.org', '--client', 'spiffe://models.example.org'], 2, 'USAGE'],
    [[], 2, 'USAGE'],
    [['--server', 'models.example.org', '--days', '398'], 2, 'USAGE'],
    [['--server', 'models.example.org', '--days', '0'], 2, 'USAGE'],
    [['--server', 'models.example.org', '--hours', '9529'], 2, 'USAGE'],
    [['--server', 'models.example.org', '--hours', '2', '--days', '1'], 2, 'USAGE'],
    [['--server', 'models.example.org', '--curve', 'P-521'], 2, 'USAGE'],
  ])('refuses %j', async (args, exit, code) => {
    const refused = await cert('issue', '--ca', at('ca'), '-o', at('never'), ...args);
    expect(refused).toMatchObject({ exit, stdout: '', stderr: expect.stringContaining(`code: ${code}`) });
  });
});

describe('strongroom cert ca', () => {
  it('makes no CA for everything', async () => {
    expect(await cert('ca', '-o', at('all'))).toMatchObject({
      exit: 2,
      stderr: expect.stringContaining('--permit'),
    });
  });
});

describe('strongroom cert show', () => {
  it.each([
    [30, 0, 'valid', '30 days left'],
    [29, 1, 'renewal-due', 'WARNING: 29 days left'],
    [7, 1, 'renewal-due', 'WARNING: 7 days left'],
    [6, 1, 'renewal-urgent', 'URGENT: 6 days left'],
    [0, 1, 'renewal-urgent', 'URGENT: 1 hour left'],
    [-1, 1, 'expired', 'EXPIRED'],
  ])('with %i days left ends with %i', async (days, exit, state, text) => {
    const made = await ending(`show${days}`, days);
    expect(await cert('show', made, '--ca', at('ca'))).toMatchObject({
      exit,
      stdout: expect.stringContaining(text),
    });
    const { certificates } = JSON.parse((await cert('show', made, '--json')).stdout);
    expect(certificates).toMatchObject([{ days, state, kind: 'server', names: ['DNS:models.example.org'] }]);
  });

  it.each([
    [24, 1, 'valid', '22 hours left'],
    [24, 17, 'renewal-due', 'WARNING: 6 hours left'],
    [24, 22, 'renewal-urgent', 'URGENT: 1 hour left'],
    [24, 25, 'expired', 'EXPIRED'],
  ])('with a life of %i hours, %i hours later, is %s', async (hours, after, state, text) => {
    const issued = new Date(Date.now() - after * 3_600_000 - 60_000);
    const pair = issueCertificate(await readFolder(at('ca')), {
      at: issued,
      days: hours / 24,
      use: 'client',
      names: [spiffeId('spiffe://models.example.org/a')],
      curve: 'P-256',
    });
    const made = at(`hours${after}`);
    await createFolder(made, pair);
    expect((await cert('show', made)).stdout).toContain(text);
    const { certificates } = JSON.parse((await cert('show', made, '--json')).stdout);
    expect(certificates).toMatchObject([{ state }]);
  });

  it('says what is not valid yet', async () => {
    const made = await ending('early', 60, -2);
    expect(await cert('show', made)).toMatchObject({
      exit: 1,
      stdout: expect.stringContaining('NOT YET VALID'),
    });
  });

  it('finds what does not lead to the CA, and what leads there through its own file', async () => {
    await cert('ca', '--permit', 'models.example.org', '-o', at('other-ca'));
    const made = await ending('chain', 60);
    const foreign = await cert('show', made, '--ca', at('other-ca'));
    expect(foreign).toMatchObject({ exit: 1, stdout: expect.stringContaining('does not lead to --ca') });
    const bundle = at('bundle.pem');
    const read = (name: string) => readFileSync(join(at(name), 'certificate.pem'));
    writeFileSync(bundle, Buffer.concat([read('chain'), read('ca')]));
    const { exit, stdout } = await cert('show', bundle, '--ca', at('ca'), '--json');
    expect(exit).toBe(0);
    const { certificates } = JSON.parse(stdout);
    expect(certificates.map(({ kind, leadsTo }: Record<string, string>) => [kind, leadsTo])).toEqual([
      ['server', 'ca'],
      ['ca', 'ca'],
    ]);
  });

  it('never shows a key, and refuses what is no certificate', async () => {
    const made = await ending('secret', 60);
    const refused = await cert('show', join(made, 'key.pem'));
    expect(refused).toMatchObject({ exit: 2, stderr: expect.stringContaining('CERT_UNUSABLE') });
    const secret = readFileSync(join(made, 'key.pem'), 'latin1').split('\n')[1] as string;
    expect(refused.stderr + (await cert('show', made, '--json')).stdout).not.toContain(secret);
    expect(await cert('show', '/dev/zero')).toMatchObject({ exit: 2 });
  });
});

describe('strongroom cert renew', () => {
  const renew = async (...args: string[]) => {
    const { stdout, exit } = await cert('renew', '--ca', at('ca'), '--json', ...args);
    return { exit, ...JSON.parse(stdout) };
  };

  it('renews what is due, for as long as before, and leaves the rest', async () => {
    const [soon, later] = [await ending('soon', 29), await ending('later', 31)];
    const key = readFileSync(join(later, 'key.pem'));
    expect(await renew(soon, later)).toMatchObject({
      exit: 0,
      certificates: [
        { folder: soon, renewed: true, days: 88 },
        { folder: later, renewed: false, days: 31 },
      ],
    });
    expect(readFileSync(join(later, 'key.pem'))).toEqual(key);
    expect(await cert('show', soon, later, '--ca', at('ca'))).toMatchObject({ exit: 0 });
  });

  it('renews a short life when a third of it is left', async () => {
    const [fresh, old] = [await ending('short1', 5, 1), await ending('short2', 1, 5)];
    const { certificates } = await renew(fresh, old);
    expect(certificates.map(({ renewed }: { renewed: boolean }) => renewed)).toEqual([false, true]);
  });

  it('renews a life of hours for as many hours', async () => {
    await cert(
      'issue',
      '--ca',
      at('ca'),
      '--client',
      'spiffe://models.example.org',
      '--hours',
      '12',
      '-o',
      at('h12'),
    );
    const lifeMs = async () => {
      const { certificate } = await readFolder(at('h12'));
      return certificate.validToDate.getTime() - certificate.validFromDate.getTime();
    };
    const backdatingMs = 10 * 60_000;
    expect(await lifeMs()).toBe(12 * 3_600_000 + backdatingMs);
    expect(await renew(at('h12'))).toMatchObject({ certificates: [{ renewed: false }] });
    expect(await renew(at('h12'), '--within', '1')).toMatchObject({ certificates: [{ renewed: true }] });
    expect(await lifeMs()).toBe(12 * 3_600_000 + backdatingMs);
    await renew(at('h12'), '--within', '1', '--hours', '2');
    expect(await lifeMs()).toBe(2 * 3_600_000 + backdatingMs);
  });

  it('does so earlier, for another life, with the same key, if asked', async () => {
    const made = await ending('asked', 50);
    const key = readFileSync(join(made, 'key.pem'));
    const { certificates } = await renew(made, '--within', '60', '--days', '10', '--keep-key');
    expect(certificates).toMatchObject([{ renewed: true, days: 9 }]);
    expect(readFileSync(join(made, 'key.pem'))).toEqual(key);
  });

  it('renews the CA by itself', async () => {
    await cert('ca', '--permit', 'models.example.org', '--days', '20', '-o', at('old-ca'));
    const done = await cert(
      'renew',
      at('old-ca'),
      '--ca',
      at('old-ca'),
      '--within',
      '30',
      '--days',
      '400',
      '--json',
    );
    expect(JSON.parse(done.stdout)).toMatchObject({ certificates: [{ renewed: true, days: 399 }] });
    expect((await readFolder(at('old-ca'))).certificate.ca).toBe(true);
  });

  it('refuses what another CA signed, and changes nothing', async () => {
    await cert('ca', '--permit', 'models.example.org', '-o', at('third-ca'));
    const made = await ending('foreign', 3);
    const before = readFileSync(join(made, 'certificate.pem'));
    const refused = await cert('renew', made, '--ca', at('third-ca'));
    expect(refused).toMatchObject({ exit: 1, stderr: expect.stringContaining('CERT_FOREIGN') });
    expect(readFileSync(join(made, 'certificate.pem'))).toEqual(before);
  });
});
