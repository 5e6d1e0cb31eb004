/** The text of `strongroom inspect`: what a person wants to know first, with a mark on what somebody vouches for. */
import type { SealedDescription } from '../owner/inspect-model.ts';
import type { LegacyDescription } from '../owner/legacy/legacy-file.ts';
import { bytes } from './progress.ts';

const PICTURE_COLUMNS = 64;
const LETTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ';
const FILES_SHOWN = LETTERS.length;

export function sealedText(path: string, model: SealedDescription): string {
  const signed = model.signedBy !== undefined;
  const mark = signed ? '[x]' : '[ ]';
  const row = (what: string, value: string, marked = mark): string =>
    `  ${marked} ${what.padEnd(12)} ${value}`;
  const { files } = model;
  const lines = [
    `${path}: sealed model`,
    '',
    row(
      'name',
      `${model.name} version ${model.version}${model.versionLabel === undefined ? '' : `, ${model.versionLabel}`}`,
    ),
    row('format', model.format),
    row('content id', model.contentId),
    row('signed', signatureText(model)),
    row('payload', payloadText(model)),
    row('head', `${bytes(model.headSizeBytes)}: ${model.chunkCount} tags, ${model.segmentCount} digests`),
    '',
    ...pictureOf(model),
    '',
    `  ${mark} ${files.length} file${files.length === 1 ? '' : 's'}`,
    ...files.slice(0, FILES_SHOWN).map((file, index) => fileText(file, index)),
    ...(files.length > FILES_SHOWN
      ? [`        and ${files.length - FILES_SHOWN} more; --json lists all`]
      : []),
    '',
    ...keysText(model),
    '',
    '  encryption context, which KMS must be given with these keys',
    ...Object.entries(model.encryptionContext).map(([name, value]) => `      ${name.padEnd(20)} ${value}`),
    '',
    signed
      ? '[x] vouched for by the signer that you gave   [ ] claimed only'
      : '[ ] claimed only, by files that anybody can write; --signer PUBLIC shows what a signer vouches for',
    '"strongroom verify" checks the payload itself.',
  ];
  return `${lines.join('\n')}\n`;
}

function signatureText({ signedBy, signatureCount, claimedSigners }: SealedDescription): string {
  if (signedBy !== undefined) return `by key ${signedBy}`;
  if (signatureCount === 0) return 'not yet: strongroom sign';
  return claimedSigners.length === 0
    ? `${signatureCount} signature${signatureCount === 1 ? '' : 's'}, without a hint by whom`
    : `it says by key ${claimedSigners.join(', ')}`;
}

function payloadText(model: SealedDescription): string {
  const { payloadSizeBytes, payloadFoundBytes, chunkCount, segmentCount } = model;
  const size = `${bytes(payloadSizeBytes)} (${payloadSizeBytes} bytes): ${chunkCount} chunks of ${binary(model.chunkBytes)} in ${segmentCount} segments of ${binary(model.segmentBytes)}`;
  if (payloadFoundBytes === payloadSizeBytes) return size;
  return payloadFoundBytes === undefined
    ? `${size}; BUT THERE IS NO payload`
    : `${size}; BUT THE FILE HAS ${payloadFoundBytes} BYTES`;
}

function fileText(
  { path, offset, sizeBytes, sha256 }: SealedDescription['files'][number],
  index: number,
): string {
  const [size, at] = [bytes(sizeBytes).padStart(9), `at ${offset}`.padEnd(16)];
  return `      ${LETTERS[index]} ${size}  ${at} ${JSON.stringify(path).slice(1, -1)}\n${' '.repeat(19)}sha256 ${sha256}`;
}

function keysText({ wraps }: SealedDescription): string[] {
  if (wraps.length === 0) return ['  [ ] no key.json: the owner keeps the data key'];
  return [
    `  [ ] data key wrapped by ${wraps.length} KMS key${wraps.length === 1 ? '' : 's'} (key.json, which nobody signs)`,
    ...wraps.map(
      ({ keyArn, label }) => `      ${keyArn}${label === undefined ? '' : `  ${printable(label)}`}`,
    ),
  ];
}

/** The payload to scale, a letter a file; what is narrower than a column still gets one. */
function pictureOf({ files, payloadSizeBytes }: SealedDescription): string[] {
  if (payloadSizeBytes === 0) return [];
  let bar = '';
  for (let column = 0; column < PICTURE_COLUMNS; column++) {
    const [from, to] = [column, column + 1].map((edge) => (edge * payloadSizeBytes) / PICTURE_COLUMNS) as [
      number,
      number,
    ];
    const index = files.findIndex(({ offset, sizeBytes }) => offset < to && offset + sizeBytes > from);
    bar += index < 0 ? '.' : (LETTERS[index] ?? '+');
  }
  const end = bytes(payloadSizeBytes);
  return [`      0${' '.repeat(Math.max(1, PICTURE_COLUMNS + 1 - end.length))}${end}`, `      [${bar}]`];
}

export function legacyText(path: string, model: LegacyDescription): string {
  const row = (what: string, value: string): string => `  [ ] ${what.padEnd(14)} ${value}`;
  const lines = [
    `${path}: legacy model, layout ${model.format.toUpperCase()}`,
    '',
    row('plaintext', `${bytes(model.plaintextSizeBytes)} (${model.plaintextSizeBytes} bytes)`),
    row('sha256', model.plaintextSha256),
    row('nonce', model.nonce),
  ];
  if (model.hasAssociatedData !== undefined) {
    lines.push(
      row('associated', model.hasAssociatedData ? 'data was given; opening needs --aad' : 'data: none'),
    );
  }
  if (model.kmsKeyId !== undefined) lines.push(row('KMS key', model.kmsKeyId));
  if (model.wrappedKeySizeBytes !== undefined)
    lines.push(row('wrapped key', `${model.wrappedKeySizeBytes} bytes`));
  if (model.metadata !== undefined) lines.push(row('metadata', model.metadata));
  if (model.metadataFault !== undefined)
    lines.push(`      KMS could not have accepted it: ${model.metadataFault}`);
  if (model.otherMembers.length > 0) {
    lines.push(row('other members', model.otherMembers.map((name) => JSON.stringify(name)).join(', ')));
  }
  lines.push(
    '',
    '[ ] claimed only: nothing of a legacy model is authentic before it was verified with its key,',
    'and nobody signs it. "strongroom convert" makes a sealed model of it.',
  );
  return `${lines.join('\n')}\n`;
}

/** A label is anybody's text: nothing in it may move a terminal's cursor or turn its line around. */
function printable(text: string): string {
  return JSON.stringify(text).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?');
}

function binary(count: number): string {
  for (const [unit, size] of [
    ['GiB', 2 ** 30],
    ['MiB', 2 ** 20],
    ['KiB', 2 ** 10],
  ] as const) {
    if (count >= size) return `${count / size} ${unit}`;
  }
  return `${count} bytes`;
}
