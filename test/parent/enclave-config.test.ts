import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseParentConfig } from '../../parent/config/config.ts';

const example = join(import.meta.dirname, '..', '..', 'deploy', 'parent.example.json');
const CONFIG = JSON.parse(readFileSync(example, 'utf8'));
const parse = (enclave: unknown) =>
  parseParentConfig(Buffer.from(JSON.stringify({ ...CONFIG, enclave })), '/etc/strongroom');

describe('the example configuration', () => {
  it('is accepted, and is of an enclave that the parent starts', () => {
    const config = parseParentConfig(readFileSync(example), '/etc/strongroom');
    expect(config.link.kind).toBe('vsock');
    expect(config.enclave?.kind).toBe('nitro-cli');
    expect(config.admin?.host).toBe('127.0.0.1');
    expect(config.credentials).toEqual({ kind: 'instance-role' });
  });
});

describe("the configuration's enclave", () => {
  const least = { kind: 'nitro-cli', image: 'strongroom.eif', cpuCount: 2, memoryMib: 4_096 };

  it('has a name, a program and a time for its boot if nobody says otherwise', () => {
    expect(parse(least).enclave).toEqual({
      ...least,
      image: '/etc/strongroom/strongroom.eif',
      name: 'strongroom',
      program: '/usr/bin/nitro-cli',
      bootTimeoutMs: 1_800_000,
    });
  });

  it('may be somebody else’s to start, with its sign of life answered or not', () => {
    expect(parse({ kind: 'external' }).enclave).toEqual({ kind: 'external' });
    expect(parse(undefined).enclave).toBeUndefined();
  });

  const refused: readonly (readonly [string, unknown, string])[] = [
    ['debug mode', { ...least, debug: true }, 'enclave.debug'],
    ['a context id beside the link', { ...least, cid: 16 }, 'enclave.cid'],
    ['another launcher', { kind: 'qemu' }, 'enclave.kind'],
    ['members of one kind in another', { kind: 'external', image: 'x' }, 'enclave.image'],
    ['no image', { ...least, image: undefined }, 'enclave'],
    ['half a core', { ...least, cpuCount: 1 }, 'enclave.cpuCount'],
    ['CPUs in words', { ...least, cpuCount: '2' }, 'enclave.cpuCount'],
    ['no memory', { ...least, memoryMib: 0 }, 'enclave.memoryMib'],
    ['a name that is an option', { ...least, name: '--all' }, 'enclave.name'],
    ['a name with spaces', { ...least, name: 'a b' }, 'enclave.name'],
    ['a measurement that is none', { ...least, pcr0: 'ab' }, 'enclave.pcr0'],
    ['the measurement of debug mode', { ...least, pcr0: '0'.repeat(96) }, 'enclave.pcr0'],
    ['no time for the boot', { ...least, bootTimeoutMs: 0 }, 'enclave.bootTimeoutMs'],
  ];
  it.each(refused)('with %s is refused', (_, enclave, member) => {
    expect(() => parse(enclave)).toThrow(
      expect.objectContaining({
        code: 'PARENT_CONFIG_INVALID',
        message: expect.stringContaining(member),
      }),
    );
  });
});
