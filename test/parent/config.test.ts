import { tmpdir } from 'node:os';
import { describe, expect, it } from 'vitest';
import { parseParentConfig, readParentConfig } from '../../parent/config/config.ts';

const CONFIG = {
  format: 'strongroom-parent/1',
  link: { kind: 'unix', dial: 'run/enclave', listen: '/run/parent' },
  ingress: { host: '0.0.0.0', port: 7443 },
  egress: [
    { host: 'kms.eu-central-1.amazonaws.com', port: 443 },
    { host: 'kms.test', port: 443, maxConnections: 4, override: { address: '127.0.0.1', port: 8443 } },
  ],
  deployment: 'deployment.json',
  models: { kind: 'folder', path: 'models' },
  credentials: { kind: 'file', path: 'credentials.json' },
};

const parse = (config: unknown) =>
  parseParentConfig(Buffer.from(JSON.stringify(config, null, 2)), '/etc/strongroom');

describe('the parent’s configuration', () => {
  it('is read with its paths relative to its own folder and its defaults filled in', () => {
    expect(parse(CONFIG)).toEqual({
      link: { kind: 'unix', dial: '/etc/strongroom/run/enclave', listen: '/run/parent' },
      ingress: {
        host: '0.0.0.0',
        port: 7443,
        maxConnections: 1_024,
        maxConnectionsPerAddress: 1_024,
        idleTimeoutMs: 300_000,
        connectTimeoutMs: 5_000,
      },
      egress: [
        { host: 'kms.eu-central-1.amazonaws.com', port: 443, maxConnections: 64 },
        { host: 'kms.test', port: 443, maxConnections: 4, override: { address: '127.0.0.1', port: 8443 } },
      ],
      deploymentPath: '/etc/strongroom/deployment.json',
      models: { kind: 'folder', path: '/etc/strongroom/models' },
      credentials: { kind: 'file', path: '/etc/strongroom/credentials.json' },
    });
  });

  it('names vsock and the instance role too', () => {
    const config = {
      ...CONFIG,
      link: { kind: 'vsock', enclaveCid: 16 },
      credentials: { kind: 'instance-role' },
    };
    expect(parse(config)).toMatchObject({
      link: { kind: 'vsock', enclaveCid: 16 },
      credentials: { kind: 'instance-role' },
    });
  });

  it('may name a deny list', () => {
    expect(parse({ ...CONFIG, denyList: 'deny-list.json' })).toMatchObject({
      denyListPath: '/etc/strongroom/deny-list.json',
    });
  });

  const [first] = CONFIG.egress;
  const refused: readonly (readonly [string, unknown, string])[] = [
    ['an unknown member', { ...CONFIG, more: 1 }, 'more'],
    ['another format', { ...CONFIG, format: 'strongroom-parent/2' }, 'format'],
    ['a missing member', { ...CONFIG, models: undefined }, 'models'],
    ['an unknown kind of models', { ...CONFIG, models: { kind: 'ftp', path: 'models' } }, 'models.kind'],
    ['an empty path', { ...CONFIG, models: { kind: 'folder', path: '' } }, 'models.path'],
    ['a NUL in a path', { ...CONFIG, models: { kind: 'folder', path: 'a\0b' } }, 'models.path'],
    ['a deny list that is no path', { ...CONFIG, denyList: true }, 'denyList'],
    ['an unknown link', { ...CONFIG, link: { kind: 'tcp' } }, 'link.kind'],
    ['a link without a kind', { ...CONFIG, link: {} }, 'link.kind'],
    [
      'a vsock to the parent itself',
      { ...CONFIG, link: { kind: 'vsock', enclaveCid: 3 } },
      'link.enclaveCid',
    ],
    [
      'a vsock to anybody',
      { ...CONFIG, link: { kind: 'vsock', enclaveCid: 0xffff_ffff } },
      'link.enclaveCid',
    ],
    [
      'members of one link in another',
      { ...CONFIG, link: { kind: 'vsock', enclaveCid: 16, dial: 'x' } },
      'link.dial',
    ],
    ['a name to listen on', { ...CONFIG, ingress: { host: 'localhost', port: 1 } }, 'ingress.host'],
    ['a port that is none', { ...CONFIG, ingress: { host: '::', port: 65_536 } }, 'ingress.port'],
    ['a port in words', { ...CONFIG, ingress: { host: '::', port: '1' } }, 'ingress.port'],
    [
      'no connections',
      { ...CONFIG, ingress: { host: '::', port: 1, maxConnections: 0 } },
      'ingress.maxConnections',
    ],
    [
      'more tunnels than the host service takes connections',
      { ...CONFIG, egress: [{ host: 'kms.test', port: 443, maxConnections: 241 }] },
      'egress.0.maxConnections',
    ],
    [
      'no patience',
      { ...CONFIG, ingress: { host: '::', port: 1, idleTimeoutMs: 0 } },
      'ingress.idleTimeoutMs',
    ],
    ['egress that is no list', { ...CONFIG, egress: 'everywhere' }, 'egress'],
    ['egress to an address', { ...CONFIG, egress: [{ host: '169.254.169.254', port: 80 }] }, 'egress.0.host'],
    [
      'egress to a decimal address',
      { ...CONFIG, egress: [{ host: '2852039166', port: 80 }] },
      'egress.0.host',
    ],
    ['egress to a pattern', { ...CONFIG, egress: [{ host: '*.amazonaws.com', port: 443 }] }, 'egress.0.host'],
    ['egress in capitals', { ...CONFIG, egress: [{ host: 'KMS.test', port: 443 }] }, 'egress.0.host'],
    ['egress to any port', { ...CONFIG, egress: [{ host: 'kms.test', port: 0 }] }, 'egress.0.port'],
    ['the same egress twice', { ...CONFIG, egress: [first, first] }, 'egress.1'],
    ['too much egress', { ...CONFIG, egress: Array(257).fill(first) }, 'egress'],
    [
      'an override by name',
      { ...CONFIG, egress: [{ ...first, override: { address: 'localhost', port: 1 } }] },
      'egress.0.override.address',
    ],
    [
      'an override without a port',
      { ...CONFIG, egress: [{ ...first, override: { address: '127.0.0.1' } }] },
      'egress.0.override',
    ],
    ['unknown credentials', { ...CONFIG, credentials: { kind: 'environment' } }, 'credentials.kind'],
    [
      'an endpoint for the metadata service',
      { ...CONFIG, credentials: { kind: 'instance-role', endpoint: 'http://x' } },
      'credentials.endpoint',
    ],
  ];
  for (const [what, config, place] of refused) {
    it(`refuses ${what} and names the place`, () => {
      expect(() => parse(config)).toThrow(
        expect.objectContaining({ code: 'PARENT_CONFIG_INVALID', message: expect.stringContaining(place) }),
      );
    });
  }

  it('names the line of what it refuses', () => {
    expect(() => parse({ ...CONFIG, ingress: { host: '::', port: -1 } })).toThrow(
      /ingress\.port \(line 10\)/,
    );
  });

  it('refuses what is not strict JSON, or too long', () => {
    for (const text of [
      '',
      '{',
      '{"format":"strongroom-parent/1","format":"x"}',
      ' '.repeat(256 * 1024 + 1),
    ]) {
      expect(() => parseParentConfig(Buffer.from(text), '/')).toThrow(
        expect.objectContaining({ code: 'PARENT_CONFIG_INVALID' }),
      );
    }
  });
});

describe("the parent's configuration file", () => {
  it('is a regular file of bounded size', async () => {
    for (const path of ['/dev/zero', tmpdir()]) {
      await expect(readParentConfig(path)).rejects.toMatchObject({
        code: 'PARENT_CONFIG_INVALID',
        message: expect.stringContaining(path),
      });
    }
    await expect(readParentConfig('/nowhere/parent.json')).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
