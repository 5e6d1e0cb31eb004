/**
 * What a container image says of its start (OCI image-spec config.md), and what of it an enclave can keep. nitro-cli's
 * init changes its root to `rootfs`, stays there, stays root, and runs `cmd` with exactly the environment `env`
 * (aws-nitro-enclaves-sdk-bootstrap init/init.c). Volumes, ports, labels, health checks and stop signals tell a
 * container runtime what to do, of which there is none: they are left aside.
 */
import type { JsonObject, JsonValue } from '../../../shared/json.ts';
import { ContainerImageError } from './errors.ts';
import { json, objectIn, textIn } from './json.ts';

export interface ContainerConfig {
  /** As Go names them: "amd64", "arm64". */
  readonly architecture: string;
  readonly os: string;
  readonly command: readonly string[];
  /** `NAME=value`, in the order of the image. */
  readonly environment: readonly string[];
  /** Of each layer's tar archive, hex. */
  readonly diffIds: readonly string[];
}

const ROOT_USERS = ['', '0', '0:0', 'root', 'root:root'];
const ROOT_FOLDERS = ['', '/'];

/** Throws ContainerImageError (CONTAINER_CONFIG, CONTAINER_FORM). */
export function parseContainerConfig(bytes: Uint8Array): ContainerConfig {
  const image = json(bytes, 'the config');
  const rootfs = objectIn(image, 'rootfs', 'the config');
  const diffIds = rootfs.diff_ids;
  if (
    rootfs.type !== 'layers' ||
    !isTexts(diffIds) ||
    !diffIds.every((id) => /^sha256:[0-9a-f]{64}$/.test(id))
  ) {
    throw new ContainerImageError('CONTAINER_FORM', 'The config lists no layers by SHA-256.');
  }
  const config: JsonObject =
    image.config === null || image.config === undefined ? {} : objectIn(image, 'config', 'the config');
  const user = optionalText(config, 'User');
  if (!ROOT_USERS.includes(user)) {
    throw cannot(`runs as user ${JSON.stringify(user)}, and init starts the application as root`);
  }
  const folder = optionalText(config, 'WorkingDir');
  if (!ROOT_FOLDERS.includes(folder)) {
    throw cannot(`starts in ${JSON.stringify(folder)}, and init starts the application in /`);
  }
  const command = [...optionalTexts(config, 'Entrypoint'), ...optionalTexts(config, 'Cmd')];
  if (command.length === 0) throw cannot('has neither ENTRYPOINT nor CMD');
  const environment = optionalTexts(config, 'Env');
  const names = environment.map((line) => /^([^=]+)=/.exec(line)?.[1]);
  if (names.includes(undefined) || new Set(names).size !== names.length) {
    throw cannot('has an environment that is not NAME=value, each name once');
  }
  if (environment.length === 0) throw cannot('has no environment, for which init would put one of its own');
  return {
    architecture: textIn(image, 'architecture', 'the config'),
    os: textIn(image, 'os', 'the config'),
    command,
    environment,
    diffIds: diffIds.map((id) => id.slice('sha256:'.length)),
  };
}

function optionalText(config: JsonObject, name: string): string {
  const value = config[name] ?? '';
  if (typeof value !== 'string') throw cannot(`has a ${name} that is no text`);
  return value;
}

function optionalTexts(config: JsonObject, name: string): readonly string[] {
  const value = config[name] ?? [];
  if (!isTexts(value) || value.some((text) => text === '' || /[\n\r\0]/.test(text))) {
    throw cannot(`has a value in ${name} that does not fit on one line`);
  }
  return value;
}

function isTexts(value: JsonValue | undefined): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function cannot(why: string): ContainerImageError {
  return new ContainerImageError('CONTAINER_CONFIG', `The container image ${why}.`);
}
