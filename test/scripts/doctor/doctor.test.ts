import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LinkError } from '../../../link/errors.ts';
import { startAdmin } from '../../../parent/admin/server.ts';
import { diagnose } from '../../../scripts/commands/doctor.ts';
import { exitCodeOf } from '../../../scripts/doctor/examine.ts';
import { KEY_ARN } from '../../owner/kms-stand-in.ts';
import { goodImds, KMS_HOST, NITRO_CLI, type TestHost, testHost } from './host.ts';

let host: TestHost;
beforeEach(async () => {
  host = await testHost();
});
afterEach(() => host[Symbol.asyncDispose]());

const ENCLAVE = {
  EnclaveName: 'other',
  EnclaveID: 'i-0abc-enc0def',
  ProcessID: 1,
  EnclaveCID: 16,
  NumberOfCPUs: 2,
  CPUIDs: [1, 3],
  MemoryMiB: 1024,
  State: 'RUNNING',
  Flags: 'NONE',
};
const enclaveConfig = () => host.config.enclave as Record<string, unknown>;
const destination = () => (host.config.egress as Record<string, unknown>[])[0];

describe('strongroom doctor', () => {
  it('finds nothing to do on a host where everything is as it should be', async () => {
    const findings = Object.values(await host.examine());
    expect(findings.filter(({ outcome }) => outcome !== 'ok')).toEqual([]);
    expect(findings.length).toBeGreaterThan(25);
    expect(exitCodeOf(findings)).toBe(0);
  });

  it('has a reason for every check, and something to do for every warning and problem', async () => {
    host.write('sys/devices/virtual/dmi/id/sys_vendor', 'QEMU\n');
    host.config = { ...host.config, egress: [], ingress: { host: '192.0.2.1', port: 0 } };
    for (const { id, why, outcome, action } of Object.values(await host.examine())) {
      expect(id).toMatch(/^[a-z]+(\.[\w.-]+)?$/);
      expect(why).toMatch(/\.$/);
      if (outcome === 'warning' || outcome === 'problem') expect(action).toBeDefined();
    }
  });

  /** Each spoils one thing; the named check must say so, and what to do about it. */
  const spoiled: readonly [
    what: string,
    id: string,
    outcome: 'warning' | 'problem',
    says: RegExp,
    spoil: () => void,
  ][] = [
    [
      'an old Node',
      'host.node',
      'problem',
      /Node 20.*npm ci/s,
      () => world({ node: { ...host.world.node, version: '20.1.0' } }),
    ],
    [
      'a newer Node than tested',
      'host.node',
      'warning',
      /Node 26/,
      () => world({ node: { ...host.world.node, version: '26.0.0' } }),
    ],
    [
      'another system',
      'host.platform',
      'problem',
      /darwin/,
      () => world({ node: { ...host.world.node, platform: 'darwin' } }),
    ],
    [
      'no EC2 instance',
      'host.ec2',
      'problem',
      /QEMU.*simulate/s,
      () => host.write('sys/devices/virtual/dmi/id/sys_vendor', 'QEMU\n'),
    ],
    [
      'a bare-metal instance',
      'host.ec2',
      'problem',
      /m5\.metal/,
      () => host.write('sys/devices/virtual/dmi/id/product_name', 'm5.metal\n'),
    ],
    [
      'few descriptors',
      'host.descriptors',
      'warning',
      /1024.*LimitNOFILE/s,
      () =>
        host.write(
          'proc/self/limits',
          'Max open files            1024                 1024                files\n',
        ),
    ],
    [
      'little memory',
      'host.memory',
      'warning',
      /97 MiB/,
      () => host.write('proc/meminfo', 'MemAvailable:  100000 kB\n'),
    ],
    [
      'a configuration with an unknown member',
      'config',
      'problem',
      /more.*docs\/link\.md/s,
      () => config({ more: 1 }),
    ],
    [
      'a deployment with an unknown member',
      'deployment',
      'problem',
      /more/,
      () => {
        host.deployment = { ...host.deployment, more: 1 };
      },
    ],
    ['no module', 'nitro.module', 'problem', /modprobe/, () => host.remove('sys/module/nitro_enclaves')],
    [
      'no device',
      'nitro.device',
      'problem',
      /enclave-options/,
      () => world({ openDevice: async () => 'ENOENT' }),
    ],
    [
      'a device of others',
      'nitro.device',
      'problem',
      /usermod -aG ne/,
      () => world({ openDevice: async () => 'EACCES' }),
    ],
    ['no group', 'nitro.group', 'problem', /no group "ne"/, () => host.write('etc/group', 'root:x:0:\n')],
    [
      'a user outside the group',
      'nitro.group',
      'warning',
      /usermod -aG ne/,
      () => world({ user: { id: 1000, groups: [1000] } }),
    ],
    [
      'no nitro-cli',
      'nitro.cli',
      'problem',
      /install aws-nitro-enclaves-cli/,
      () => host.remove('nitro-cli'),
    ],
    [
      'a program that is no nitro-cli',
      'nitro.cli',
      'problem',
      /expected a version/,
      () => host.write('nitro-cli', '#!/bin/sh\necho hello\n'),
    ],
    [
      'an old nitro-cli',
      'nitro.cli',
      'problem',
      /1\.1\.0 or newer/,
      () => host.write('nitro-cli', '#!/bin/sh\necho Nitro CLI 1.0.12\n'),
    ],
    [
      'an enclave that has our context id',
      'nitro.enclaves',
      'problem',
      /terminate-enclave --enclave-id i-0abc-enc0def/,
      () => host.write('nitro-cli', NITRO_CLI([ENCLAVE])),
    ],
    [
      'an enclave in debug mode',
      'nitro.enclaves',
      'warning',
      /debug mode/,
      () => host.write('nitro-cli', NITRO_CLI([{ ...ENCLAVE, EnclaveCID: 20, Flags: 'DEBUG_MODE' }])),
    ],
    [
      'an enclave that nitro-cli does not reach',
      'nitro.enclaves',
      'problem',
      /does not reach.*end its process/s,
      () =>
        host.write(
          'nitro-cli',
          '#!/bin/sh\n[ "$1" = --version ] && echo Nitro CLI 1.4.2 && exit 0\necho "[]"\nexit 39\n',
        ),
    ],
    [
      'a nitro-cli that fails with a code',
      'nitro.enclaves',
      'problem',
      /E07.*group/s,
      () =>
        host.write(
          'nitro-cli',
          '#!/bin/sh\n[ "$1" = --version ] && echo Nitro CLI 1.4.2 && exit 0\necho "[ E07 ] Socket error" >&2\nexit 7\n',
        ),
    ],
    [
      'no file of the allocator',
      'allocator.file',
      'problem',
      /allocator\.yaml/,
      () => host.remove('etc/nitro_enclaves/allocator.yaml'),
    ],
    [
      'an allocator that gives too little memory',
      'allocator.file',
      'problem',
      /memory_mib: 2048/,
      () => allocator('memory_mib: 512\ncpu_count: 2'),
    ],
    [
      'an allocator that gives too few CPUs',
      'allocator.file',
      'problem',
      /cpu_count: 2/,
      () => allocator('memory_mib: 4096\ncpu_count: 1'),
    ],
    [
      'an allocator that ignores its file',
      'allocator.file',
      'problem',
      /"---"/,
      () => host.write('etc/nitro_enclaves/allocator.yaml', 'memory_mib: 4096\ncpu_count: 4\n'),
    ],
    [
      'both kinds of CPUs in the allocator',
      'allocator.file',
      'problem',
      /either/,
      () => allocator('memory_mib: 4096\ncpu_count: 2\ncpu_pool: 1,3'),
    ],
    [
      'a misspelt member of the allocator',
      'allocator.file',
      'problem',
      /line 2.*memory_mb/s,
      () => allocator('memory_mb: 4096\ncpu_count: 2'),
    ],
    [
      'an allocator that is not running',
      'allocator.service',
      'problem',
      /failed.*journalctl/s,
      () => host.write('systemctl', '#!/bin/sh\necho failed\n'),
    ],
    [
      'an allocator that is forgotten at the next restart',
      'allocator.service',
      'warning',
      /systemctl enable/,
      () => host.write('systemctl', '#!/bin/sh\n[ $1 = is-active ] && echo active || echo disabled\n'),
    ],
    [
      'an empty pool of CPUs',
      'allocator.cpus',
      'problem',
      /cpu_count/,
      () => host.write('sys/module/nitro_enclaves/parameters/ne_cpus', '\n'),
    ],
    [
      'a pool with too few CPUs',
      'allocator.cpus',
      'problem',
      /enclave\.cpuCount is 8/,
      () => enclave({ cpuCount: 8 }),
    ],
    ['half a core', 'allocator.cpus', 'problem', /multiple of 2/, () => enclave({ cpuCount: 3 })],
    ['no huge pages', 'allocator.hugepages', 'problem', /^0 MiB/, () => hugePages(0, 0)],
    ['too few huge pages', 'allocator.hugepages', 'problem', /1024 MiB.*2048/s, () => hugePages(1, 1)],
    [
      'huge pages that somebody holds',
      'allocator.hugepages',
      'warning',
      /1024 MiB free/,
      () => hugePages(4, 1),
    ],
    [
      'no AF_VSOCK',
      'vsock.socket',
      'problem',
      /modprobe vsock/,
      () =>
        world({
          openVsock: async () => {
            throw new LinkError('LINK_UNSUPPORTED', 'This kernel offers no AF_VSOCK socket.');
          },
        }),
    ],
    ['no /dev/vsock', 'vsock.device', 'warning', /modprobe/, () => host.remove('dev/vsock')],
    [
      'a metadata service that is turned off',
      'imds.answers',
      'problem',
      /turned off.*http-endpoint enabled/s,
      () => {
        host.imds = () => [403, ''];
      },
    ],
    [
      'a metadata service that says nothing',
      'imds.answers',
      'problem',
      /hop-limit 2/,
      () => {
        host.imds = () => [0, ''];
      },
    ],
    [
      'version 1 of the metadata service',
      'imds.version',
      'warning',
      /http-tokens required/,
      () => {
        host.imds = (request, token) =>
          token === undefined && request.startsWith('GET') ? [200, 'ami-id'] : goodImds(request, token);
      },
    ],
    [
      'no role',
      'imds.role',
      'problem',
      /associate-iam-instance-profile/,
      () => {
        host.imds = (request, token) =>
          request.includes('security-credentials') ? [404, ''] : goodImds(request, token);
      },
    ],
    [
      'a role that gives no credentials',
      'imds.credentials',
      'problem',
      /trust policy/,
      () => {
        host.imds = (request, token) =>
          request.endsWith('strongroom-parent')
            ? [200, '{"Code":"AssumeRoleUnauthorizedAccess"}']
            : goodImds(request, token);
      },
    ],
    [
      'expired credentials in a file',
      'credentials.file',
      'problem',
      /expired at 2020/,
      () => credentialsFile('2020-01-01T00:00:00Z'),
    ],
    [
      'credentials that expire soon',
      'credentials.file',
      'warning',
      /4 minutes/,
      () => credentialsFile('2026-05-01T12:04:30Z'),
    ],
    [
      'no credentials in the file',
      'credentials.file',
      'problem',
      /credentials\.json/,
      () => config({ credentials: { kind: 'file', path: 'credentials.json' } }),
    ],
    [
      'no such model',
      'model.iris',
      'problem',
      /no iris\.sealed\/head/,
      () => host.remove('models/iris.sealed'),
    ],
    [
      'a head that is none',
      'model.iris',
      'problem',
      /iris:/,
      () => host.write('models/iris.sealed/head', 'no head'),
    ],
    [
      'a key file that is none',
      'model.iris',
      'problem',
      /key\.json/,
      () => host.write('models/iris.sealed/key.json', '{}'),
    ],
    [
      'no manifest',
      'model.iris',
      'problem',
      /manifest\.json/,
      () => host.remove('models/iris.sealed/manifest.json'),
    ],
    [
      'a payload that is too short',
      'model.iris',
      'problem',
      /payload/,
      () => host.write('models/iris.sealed/payload', 'short'),
    ],
    [
      'an older model than the deployment takes',
      'model.iris',
      'problem',
      /version 4 or newer/,
      () => pin({ minimumVersion: 4 }),
    ],
    [
      'a key that no deployment lists',
      'model.iris',
      'problem',
      /no key that the deployment lists/,
      () => {
        host.deployment = { ...host.deployment, kmsKeys: [KEY_ARN.replace('1234abcd', '99999999')] };
      },
    ],
    [
      'an image that is none',
      'image.file',
      'problem',
      /end of the header/,
      () => host.write('strongroom.eif', 'no image'),
    ],
    [
      'another image than the configuration names',
      'image.file',
      'problem',
      /expected PCR0 aaaa/,
      () => enclave({ pcr0: 'a'.repeat(96) }),
    ],
    [
      'an enclave that is too small',
      'enclave.size',
      'problem',
      /64 MiB given.*--check/s,
      () => enclave({ memoryMib: 64 }),
    ],
    [
      'a KMS that is not on the egress list',
      `kms.${KMS_HOST}`,
      'problem',
      /not on the egress list.*"port": 443/s,
      () => config({ egress: [] }),
    ],
    [
      'a KMS that has no address',
      `kms.${KMS_HOST}`,
      'problem',
      /VPC endpoint/,
      () => {
        overrideNone();
        world({ resolve: async () => [] });
      },
    ],
    [
      'a KMS whose name leads to this host',
      `kms.${KMS_HOST}`,
      'problem',
      /127\.0\.0\.1/,
      () => overrideNone(),
    ],
    [
      'a KMS that nobody can connect to',
      `kms.${KMS_HOST}`,
      'problem',
      /No connection/,
      () => override({ address: '127.0.0.1', port: 1 }),
    ],
    [
      'somebody who opens TLS on the way',
      `kms.${KMS_HOST}`,
      'problem',
      /Amazon.*proxy/s,
      () => world({ kmsRoots: [] }),
    ],
    [
      'a clock that is a little ahead',
      'clock.offset',
      'warning',
      /19\.\d s ahead/,
      () => {
        host.kmsNow -= 20_000;
      },
    ],
    [
      'a clock that is far behind',
      'clock.offset',
      'problem',
      /12\d\.\d s behind.*chrony/s,
      () => {
        host.kmsNow += 120_000;
      },
    ],
    [
      'an address that is not of this host',
      'port.ingress',
      'problem',
      /address of this host/,
      () => config({ ingress: { host: '192.0.2.1', port: 7443 } }),
    ],
  ];
  it.each(spoiled)('finds %s', async (_what, id, outcome, says, spoil) => {
    spoil();
    const finding = (await host.examine())[id];
    expect(finding).toMatchObject({ outcome });
    expect(`${finding?.found} ${finding?.action}`).toMatch(says);
  });

  const world = (change: Partial<TestHost['world']>) => {
    host.world = { ...host.world, ...change };
  };
  const config = (change: object) => {
    host.config = { ...host.config, ...change };
  };
  const enclave = (change: object) => config({ enclave: { ...enclaveConfig(), ...change } });
  const allocator = (text: string) => host.write('etc/nitro_enclaves/allocator.yaml', `---\n${text}\n`);
  const hugePages = (total: number, free: number) => {
    host.write('sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages', `${total}\n`);
    host.write('sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages', `${free}\n`);
  };
  const override = (to: object) => config({ egress: [{ ...destination(), override: to }] });
  const overrideNone = () => config({ egress: [{ host: KMS_HOST, port: 443 }] });
  const pin = (change: object) => {
    const [model] = host.deployment.models as object[];
    host.deployment = { ...host.deployment, models: [{ ...model, ...change }] };
  };
  const credentialsFile = (expiration: string) => {
    config({ credentials: { kind: 'file', path: 'credentials.json' } });
    const credentials = {
      accessKeyId: 'ASIAEXAMPLEEXAMPLE01',
      secretAccessKey: 'ExampleSecretAccessKey0123456789/+abcdef',
      sessionToken: 'ExampleSessionToken==',
      expiration,
    };
    host.write('credentials.json', JSON.stringify(credentials));
  };
});

describe('what doctor leaves out', () => {
  it('skips everything of Nitro where there is no EC2 instance, and says why', async () => {
    host.write('sys/devices/virtual/dmi/id/sys_vendor', 'QEMU\n');
    const findings = await host.examine();
    for (const id of ['nitro.module', 'nitro.device', 'nitro.cli', 'allocator.file', 'imds.answers']) {
      expect(findings[id]).toMatchObject({ outcome: 'skipped', found: 'It needs host.ec2.' });
    }
    expect(findings['imds.role']).toMatchObject({ outcome: 'skipped', found: 'It needs imds.answers.' });
  });

  it('reads no more of a metadata service than a token takes, however much comes', async () => {
    const endless = createServer((_request, response) => {
      response.writeHead(200).write('x'.repeat(8_192));
    });
    await new Promise<void>((resolve) => endless.listen(0, '127.0.0.1', resolve));
    const { port } = endless.address() as AddressInfo;
    host.world = { ...host.world, imdsEndpoint: `http://127.0.0.1:${port}` };
    const findings = await host.examine();
    endless.closeAllConnections();
    endless.close();
    expect(findings['imds.answers']).toMatchObject({ outcome: 'ok' });
    expect(findings['imds.role']).toMatchObject({ outcome: 'problem' });
  });

  it('goes on where the firmware is hidden and the device is there, and cannot promise that all is well', async () => {
    host.remove('sys/devices/virtual/dmi');
    const findings = await host.examine();
    expect(findings['host.ec2']).toMatchObject({ outcome: 'skipped', undecided: true });
    expect(findings['nitro.cli']).toMatchObject({ outcome: 'ok' });
    expect(exitCodeOf(Object.values(findings))).toBe(3);
  });

  it('checks the host alone without a configuration', async () => {
    host.world = { ...host.world, configPath: undefined };
    const findings = await host.examine();
    expect(findings.config).toMatchObject({ outcome: 'skipped' });
    expect(Object.keys(findings).filter((id) => /^(model|kms|image|port)\./.test(id))).toEqual([]);
    expect(exitCodeOf(Object.values(findings))).toBe(0);
  });

  it('does not ask for vsock or huge pages of a simulated enclave', async () => {
    const { enclave: _, ...rest } = host.config;
    host.config = { ...rest, link: { kind: 'unix', dial: 'e', listen: 'p' } };
    const findings = await host.examine();
    expect(findings['vsock.socket']).toMatchObject({ outcome: 'skipped' });
    expect(findings['enclave.size']).toBeUndefined();
  });

  it('cannot tell where systemd does not run the machine', async () => {
    host.write('systemctl', '#!/bin/sh\necho offline\n');
    const findings = await host.examine();
    expect(findings['allocator.service']).toMatchObject({ outcome: 'skipped', undecided: true });
  });
});

describe('ports', () => {
  it('knows a running parent by its admin port, and anybody else by the lack of it', async () => {
    const sources = {
      live: async () => true,
      counters: () => ({}),
      state: () => {
        throw new Error('not asked');
      },
    };
    await using running = Object.assign(await startAdmin({ host: '127.0.0.1', port: 0 }, sources), {
      [Symbol.asyncDispose]: () => running.close(),
    });
    const other = createServer((_request, response) => response.end('{"healthy":false}'));
    other.listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;

    host.config = { ...host.config, admin: { port: running.address.port } };
    expect((await host.examine())['port.admin']).toMatchObject({ outcome: 'ok' });
    host.config = { ...host.config, ingress: { host: '127.0.0.1', port }, admin: { port } };
    expect((await host.examine())['port.admin']).toMatchObject({ outcome: 'problem' });
    const { admin: _, ...without } = host.config;
    host.config = without;
    const finding = (await host.examine())['port.ingress'];
    expect(finding).toMatchObject({ outcome: 'warning', action: expect.stringContaining(`:${port}`) });
    other.close();
  });
});

describe('the report', () => {
  async function run(json: boolean, isTTY: boolean): Promise<{ code: number; text: string }> {
    await host.examine();
    const stdout = Object.assign(new PassThrough(), { isTTY });
    const io = { stdin: process.stdin, stdout, stderr: process.stderr, signal: new AbortController().signal };
    const code = await diagnose(host.world, io, json);
    stdout.end();
    return { code, text: (await stdout.toArray()).join('') };
  }

  it('is text that says why and what next, without colours when it is no terminal', async () => {
    host.remove('etc/nitro_enclaves/allocator.yaml');
    const { code, text } = await run(false, false);
    expect(code).toBe(1);
    expect(text).toContain('problem   allocator.file');
    expect(text).toMatch(/why {3}It says how much memory.*\n +next {2}Install/);
    expect(text).toContain('Begin with the first problem, allocator.file');
    expect(text).not.toContain('\x1b');
  });

  it('has colours on a terminal, and none with NO_COLOR', async () => {
    const before = process.env.NO_COLOR;
    try {
      delete process.env.NO_COLOR;
      expect((await run(false, true)).text).toContain('\x1b[32mok');
      process.env.NO_COLOR = '1';
      expect((await run(false, true)).text).not.toContain('\x1b');
    } finally {
      if (before === undefined) delete process.env.NO_COLOR;
      else process.env.NO_COLOR = before;
    }
  });

  it('is one JSON document with --json', async () => {
    const { code, text } = await run(true, true);
    expect(code).toBe(0);
    const { exitCode, checks } = JSON.parse(text);
    expect(exitCode).toBe(0);
    expect(checks[0]).toEqual({
      id: 'host.node',
      group: 'Host',
      why: expect.any(String),
      outcome: 'ok',
      found: 'Node 24.21.0',
    });
  });

  it('never shows credentials', async () => {
    const shown = [await run(true, false), await run(false, false)].map(({ text }) => text).join('');
    for (const secret of ['ASIAEXAMPLE', 'ExampleSecret', 'ExampleSession', 'AQAEAtoken']) {
      expect(shown).not.toContain(secret);
    }
  });
});
