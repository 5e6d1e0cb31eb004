import { describe, expect, it } from 'vitest';
import { parseParentConfig } from '../../parent/config/config.ts';

const CONFIG = {
  format: 'strongroom-parent/1',
  link: { kind: 'unix', dial: 'e', listen: 'p' },
  ingress: { host: '0.0.0.0', port: 7443 },
  egress: [],
  deployment: 'deployment.json',
  models: { kind: 'folder', path: 'models' },
  credentials: { kind: 'instance-role' },
};

const admin = (value?: unknown) =>
  parseParentConfig(Buffer.from(JSON.stringify({ ...CONFIG, admin: value })), '/').admin;

describe('the admin member', () => {
  it('is optional, and listens on loopback by default', () => {
    expect(admin()).toBeUndefined();
    expect(admin({ port: 9464 })).toEqual({ host: '127.0.0.1', port: 9464 });
    expect(admin({ host: '::1', port: 0 })).toEqual({ host: '::1', port: 0 });
    expect(admin({ host: '127.3.2.1', port: 1 })).toEqual({ host: '127.3.2.1', port: 1 });
  });

  it.each([
    ['every address', { host: '0.0.0.0', port: 9464 }, 'admin.host'],
    ['every IPv6 address', { host: '::', port: 9464 }, 'admin.host'],
    ["the host's address in its network", { host: '10.0.0.5', port: 9464 }, 'admin.host'],
    ['an IPv4 address inside an IPv6 one', { host: '::ffff:127.0.0.1', port: 9464 }, 'admin.host'],
    ['a zone', { host: '::1%lo', port: 9464 }, 'admin.host'],
    ['a name', { host: 'localhost', port: 9464 }, 'admin.host'],
    ['another spelling of 127.0.0.1', { host: '2130706433', port: 9464 }, 'admin.host'],
    ['no port', { host: '127.0.0.1' }, 'admin'],
    ['a port that is none', { port: 65_536 }, 'admin.port'],
    ['an unknown member', { port: 9464, path: '/metrics' }, 'admin.path'],
    ['a list', [], 'admin'],
    ['null', null, 'admin'],
  ])('refuses %s', (_what, value, place) => {
    expect(() => admin(value)).toThrow(
      expect.objectContaining({ code: 'PARENT_CONFIG_INVALID', message: expect.stringContaining(place) }),
    );
  });
});
