import { parseArgs } from 'node:util';
import type { CpioEntry, CpioKind } from '../../review/image/eif/cpio-read.ts';
import { type ListedRamdisk, RamdiskLister } from '../../review/image/eif/ramdisk.ts';
import type { Command } from '../command.ts';
import { measureFile, onlyFile } from '../image/options.ts';
import { hex, shown } from '../image/shown.ts';

export const command: Command = {
  name: 'image list',
  summary: 'List the files of an enclave image',
  help: `
Usage: strongroom image list FILE.eif [--all] [--json]

Lists every file of the application: mode, size, SHA-256 of the content, name. The image file is checked as
"image measure" checks it, and a listed ramdisk must be one newc archive, plain or gzip-compressed, with nothing
behind it: what a kernel would unpack and this would not list is refused (docs/image.md section 5).

Options:
  --all   also list the first ramdisk, with init and kernel modules
  --json  print {pcr0, ramdisks: [{ramdisk, compression, entries}]} as one JSON document

Example:
  strongroom image list strongroom.eif

Exit codes: 0 listed, 2 not an acceptable image file, or usage.
`,
  run: async (args, io) => {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { all: { type: 'boolean', default: false }, json: { type: 'boolean', default: false } },
    });
    const lister = new RamdiskLister();
    const { measurements } = await measureFile(onlyFile(positionals), io, lister);
    const { outcomes } = lister;
    // The only ramdisk of an image is boot and application in one.
    const wanted = outcomes.filter(({ ramdisk }) => values.all || ramdisk > 0 || outcomes.length === 1);
    const ramdisks = wanted.map(({ list, refused }) => {
      if (list === undefined) throw refused;
      return list;
    });
    if (values.json) {
      io.stdout.write(
        `${JSON.stringify({ pcr0: hex(measurements.pcr0), ramdisks: ramdisks.map(asJson) })}\n`,
      );
    } else {
      for (const ramdisk of ramdisks) io.stdout.write(asText(ramdisk));
    }
    return 0;
  },
};

function asJson({ ramdisk, compression, entries }: ListedRamdisk): object {
  return {
    ramdisk,
    compression,
    entries: entries.map(({ mode, ...entry }) => ({ ...entry, mode: octal(mode) })),
  };
}

const KIND_LETTERS: Readonly<Record<CpioKind, string>> = {
  file: '-',
  folder: 'd',
  link: 'l',
  'character-device': 'c',
  'block-device': 'b',
  pipe: 'p',
  socket: 's',
};

function asText({ ramdisk, compression, entries }: ListedRamdisk): string {
  const files = entries.filter(({ kind }) => kind === 'file');
  const sizeBytes = files.reduce((sum, entry) => sum + entry.sizeBytes, 0);
  const seen = new Set<string>();
  const lines = entries.map((entry) => {
    const again = seen.has(entry.path) && entry.kind !== 'folder';
    seen.add(entry.path);
    return lineOf(entry, again);
  });
  const packed = compression === 'none' ? '' : `, ${compression}`;
  return [
    `Ramdisk ${ramdisk}${packed}: ${entries.length} entries, ${files.length} files, ${sizeBytes} bytes`,
    ...lines,
    '',
  ].join('\n');
}

function lineOf(entry: CpioEntry, again: boolean): string {
  const owner = `${entry.userId}:${entry.groupId}`;
  const digest = entry.sha256 ?? ''.padEnd(64, '·');
  const notes = [
    ...(entry.target === undefined ? [] : [`-> ${shown(entry.target)}`]),
    ...(again ? ['(REPLACES the one above of this name)'] : []),
  ];
  return [
    `${KIND_LETTERS[entry.kind]}${octal(entry.mode)}`,
    owner.padEnd(5),
    String(entry.sizeBytes).padStart(11),
    digest,
    shown(entry.path),
    ...notes,
  ].join('  ');
}

function octal(mode: number): string {
  return mode.toString(8).padStart(4, '0');
}
