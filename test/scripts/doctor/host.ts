/**
 * A host where everything is as it should be: a folder in place of / , small programs in place of nitro-cli and
 * systemctl, servers in place of the metadata service and of KMS. Each test spoils one thing of it.
 */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { generateOwnerKeyPair } from '../../../owner/keygen.ts';
import { sealToFolder } from '../../../owner/seal-model.ts';
import { examine, type Finding } from '../../../scripts/doctor/examine.ts';
import type { World } from '../../../scripts/doctor/world.ts';
import { createServerTls } from '../../../simulator/kms/tls.ts';
import { KEY_ARN, kmsStandIn } from '../../owner/kms-stand-in.ts';
import { eifFile, GOOD } from '../../review/image/eif/eif-file.ts';

export const KMS_HOST = 'kms.eu-central-1.amazonaws.com';
const NOW = Date.parse('2026-05-01T12:00:00Z');

export const NITRO_CLI = (enclaves: unknown = []): string => `#!/bin/sh
case "$1" in
  --version) echo "Nitro CLI 1.4.2" ;;
  describe-enclaves) cat <<'END'
${JSON.stringify(enclaves)}
END
  ;;
esac
`;

export const SYSTEMCTL = `#!/bin/sh
case "$1" in
  is-active) echo active ;;
  is-enabled) echo enabled ;;
esac
`;

export interface TestHost extends AsyncDisposable {
  readonly folder: string;
  world: World;
  /** The parent's configuration, as it is written before each examination. */
  config: Record<string, unknown>;
  deployment: Record<string, unknown>;
  /** What the metadata service answers, by method and path. */
  imds: (request: string, token: string | undefined) => readonly [status: number, body: string];
  /** The Date of KMS's answers. */
  kmsNow: number;
  write(path: string, text: string | Uint8Array, mode?: number): void;
  remove(path: string): void;
  examine(): Promise<Record<string, Finding>>;
}

export async function testHost(): Promise<TestHost> {
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-doctor-'));
  const write: TestHost['write'] = (path, content, mode) => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
    if (mode !== undefined) chmodSync(join(folder, path), mode);
  };
  writeHost(write);
  const { files, deployment } = await sealedModel();
  for (const [name, bytes] of Object.entries(files)) write(`models/iris.sealed/${name}`, bytes);
  const tls = await kmsTls();
  const servers: Server[] = [];
  const listen = async (server: Server): Promise<number> => {
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return (server.address() as AddressInfo).port;
  };
  const imdsPort = await listen(createServer((request, response) => answerImds(request, response)));
  const answerImds: RequestListener = (request, response) => {
    const token = request.headers['x-aws-ec2-metadata-token'];
    const [status, body] = host.imds(`${request.method} ${request.url}`, token?.toString());
    if (status !== 0) response.writeHead(status).end(body);
  };
  const kms = createTlsServer({ cert: tls.chainPem, key: tls.keyPem }, (_request, response) => {
    response.sendDate = false;
    response.writeHead(404, { date: new Date(host.kmsNow).toUTCString() }).end();
  });
  const kmsPort = await listen(kms);

  const host: TestHost = {
    folder,
    world: {
      root: folder,
      node: { version: '24.21.0', platform: 'linux', architecture: 'x64' },
      user: { id: 1000, groups: [1000, 987] },
      nitroCli: join(folder, 'nitro-cli'),
      systemctl: join(folder, 'systemctl'),
      imdsEndpoint: `http://127.0.0.1:${imdsPort}`,
      resolve: async () => ['127.0.0.1'],
      kmsRoots: [tls.caCertificatePem],
      now: () => NOW,
      configPath: join(folder, 'parent.json'),
      openDevice: async () => undefined,
      openVsock: async () => {},
    },
    config: {
      format: 'strongroom-parent/1',
      link: { kind: 'vsock', enclaveCid: 16 },
      enclave: {
        kind: 'nitro-cli',
        image: 'strongroom.eif',
        cpuCount: 2,
        memoryMib: 2_048,
        program: join(folder, 'nitro-cli'),
      },
      ingress: { host: '127.0.0.1', port: 0 },
      egress: [{ host: KMS_HOST, port: 443, override: { address: '127.0.0.1', port: kmsPort } }],
      deployment: 'deployment.json',
      models: { kind: 'folder', path: 'models' },
      credentials: { kind: 'instance-role' },
      admin: { port: 0 },
    },
    deployment,
    imds: goodImds,
    kmsNow: NOW,
    write,
    remove: (path) => rmSync(join(folder, path), { recursive: true }),
    examine: async () => {
      write('parent.json', JSON.stringify(host.config));
      write('deployment.json', JSON.stringify(host.deployment));
      const findings: Record<string, Finding> = {};
      for await (const finding of examine(host.world)) findings[finding.id] = finding;
      return findings;
    },
    [Symbol.asyncDispose]: async () => {
      for (const server of servers) {
        server.close();
        server.closeAllConnections();
      }
      rmSync(folder, { recursive: true });
    },
  };
  return host;
}

/** AWS EC2 User Guide, "Use the Instance Metadata Service to access instance metadata". */
export const goodImds: TestHost['imds'] = (request, token) => {
  if (request === 'PUT /latest/api/token') return [200, 'AQAEAtoken=='];
  if (token !== 'AQAEAtoken==') return [401, ''];
  const credentials = '/latest/meta-data/iam/security-credentials/';
  if (request === `GET ${credentials}`) return [200, 'strongroom-parent'];
  if (request === `GET ${credentials}strongroom-parent`) {
    return [
      200,
      JSON.stringify({
        Code: 'Success',
        LastUpdated: '2026-05-01T11:00:00Z',
        Type: 'AWS-HMAC',
        AccessKeyId: 'ASIAEXAMPLEEXAMPLE01',
        SecretAccessKey: 'ExampleSecretAccessKey0123456789/+abcdef',
        Token: 'ExampleSessionToken==',
        Expiration: '2099-01-01T00:00:00Z',
      }),
    ];
  }
  return [404, ''];
};

function writeHost(write: TestHost['write']): void {
  write('dev/nitro_enclaves', '');
  write('dev/vsock', '');
  write('etc/group', 'root:x:0:\nne:x:987:ec2-user\n');
  write('etc/nitro_enclaves/allocator.yaml', '---\n# MiB\nmemory_mib: 4096\ncpu_count: 4\n');
  write('proc/meminfo', 'MemTotal: 16000000 kB\nMemFree: 100 kB\nMemAvailable:    8000000 kB\n');
  write(
    'proc/self/limits',
    'Limit                     Soft Limit           Hard Limit           Units\nMax open files            1024                 65536                files\n',
  );
  write('sys/devices/virtual/dmi/id/sys_vendor', 'Amazon EC2\n');
  write('sys/devices/virtual/dmi/id/product_name', 'm6i.2xlarge\n');
  write('sys/module/nitro_enclaves/parameters/ne_cpus', '1,3,5,7\n');
  write('sys/devices/system/cpu/cpu0/topology/thread_siblings_list', '0,4\n');
  for (const [size, pages] of [
    ['2048', 0],
    ['1048576', 4],
  ] as const) {
    write(`sys/kernel/mm/hugepages/hugepages-${size}kB/nr_hugepages`, `${pages}\n`);
    write(`sys/kernel/mm/hugepages/hugepages-${size}kB/free_hugepages`, `${pages}\n`);
  }
  write('nitro-cli', NITRO_CLI(), 0o755);
  write('systemctl', SYSTEMCTL, 0o755);
  write('strongroom.eif', eifFile({ sections: GOOD }));
}

interface SealedOnce {
  readonly files: Readonly<Record<string, Uint8Array>>;
  readonly deployment: Record<string, unknown>;
}

let sealed: Promise<SealedOnce> | undefined;

/** Sealed once for all tests, and kept in memory. */
function sealedModel(): Promise<SealedOnce> {
  sealed ??= sealModel();
  return sealed;
}

async function sealModel(): Promise<SealedOnce> {
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-doctor-'));
  try {
    const recovery = await generateOwnerKeyPair('recovery');
    const signing = await generateOwnerKeyPair('signing');
    writeFileSync(join(folder, 'model.onnx'), new Uint8Array(4_096));
    await sealToFolder({
      identity: { name: 'iris', version: 3, format: 'onnx' },
      input: { kind: 'paths', paths: [join(folder, 'model.onnx')] },
      out: join(folder, 'iris.sealed'),
      kmsKeys: [kmsStandIn()],
      recoveryKey: recovery.publicKey,
      signer: signing.privateKey,
    });
    const names = ['payload', 'head', 'key.json', 'manifest.json'];
    const signer = signing.publicKey.export({ type: 'spki', format: 'pem' });
    return {
      files: Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, 'iris.sealed', name))])),
      deployment: {
        format: 'strongroom-deployment/1',
        models: [{ name: 'iris', minimumVersion: 1, signer }],
        kmsKeys: [KEY_ARN],
        clients: 'anyone',
      },
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

let certified: ReturnType<typeof createServerTls> | undefined;

function kmsTls(): ReturnType<typeof createServerTls> {
  certified ??= createServerTls('eu-central-1', new Date());
  return certified;
}
