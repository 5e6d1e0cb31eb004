/**
 * Model Signing over a sealed model. Signed are the two files that never change, `payload` and `head`; `key.json` and
 * `manifest.json` are named as left out. Shards are as long as segments, so that the digests of the payload's shards are
 * the digest table of the head: whoever has checked one has checked the other.
 */
import { createHash, type KeyObject } from 'node:crypto';
import { basename, join, resolve } from 'node:path';
import { DIGEST_BYTES } from '../../shared/sealed-model/format.ts';
import type { Head } from '../../shared/sealed-model/head.ts';
import { fileSource } from '../../shared/sealed-model/source.ts';
import { writeFileAside } from '../aside-file.ts';
import { OwnerError } from '../errors.ts';
import { expectOutside } from '../plaintext.ts';
import { readHead } from '../sealed-folder.ts';
import { checkDigests, type Observe } from '../verify/segments.ts';
import { omsHashOf, signOmsStatement, verifiedOmsStatement } from './bundle.ts';
import { ALWAYS_IGNORED, differ, expectResources, filesOf, rangesOf, resourcesOf } from './files.ts';
import {
  encodeOmsStatement,
  type OmsManifest,
  type OmsResource,
  type OmsSerialization,
  parseOmsStatement,
} from './statement.ts';

const MUTABLE = ['key.json', 'manifest.json'];

export interface SignOms extends Observe {
  /** NAME.sealed. */
  readonly sealed: string;
  /** ECDSA on P-256, P-384 or P-521. */
  readonly signer: KeyObject;
  readonly method: OmsSerialization['method'];
  /** The bundle to create, beside the folder and not in it. */
  readonly out: string;
}

/** Reads the payload whole: nobody should vouch for bytes that are not there. Throws OwnerError, OmsError. */
export async function signOms({ sealed, signer, method, out, ...observe }: SignOms): Promise<OmsManifest> {
  omsHashOf(signer);
  await expectOutside(out, [sealed]);
  const head = await readHead(sealed);
  const payload = { path: 'payload', sizeBytes: head.payloadSizeBytes };
  await using source = await fileSource(join(sealed, payload.path));
  await expectPayload(head, source, observe);

  const serialization = serializationFor(head, method);
  const [stranger] = (await filesOf(sealed, [...MUTABLE, 'head', payload.path])).map(({ path }) => path);
  if (stranger !== undefined) throw differ(`${stranger} is there and no part of a sealed model`);
  const manifest: OmsManifest = {
    serialization,
    ignorePaths: [...MUTABLE, ...ALWAYS_IGNORED],
    resources: [
      ...resourcesOfHead(head, serialization),
      ...(method === 'shards'
        ? shardsOfTable(head)
        : await resourcesOf(sealed, payload, serialization, { signal: observe.signal })),
    ],
  };
  const bundle = signOmsStatement(encodeOmsStatement(basename(resolve(sealed)), manifest), signer);
  await writeFileAside({ path: out, mode: 0o644 }, (file) => file.writeFile(bundle));
  return manifest;
}

async function expectPayload(
  head: Head,
  source: Awaited<ReturnType<typeof fileSource>>,
  observe: Observe,
): Promise<void> {
  const all = Array.from({ length: head.geometry.segmentCount }, (_, segment) => segment);
  const sizeRight = source.sizeBytes === head.payloadSizeBytes;
  const [wrong] = sizeRight ? (await checkDigests(head, source, all, observe)).faults : [{ segment: 0 }];
  if (wrong === undefined) return;
  throw new OwnerError(
    'OWNER_PAYLOAD_ALTERED',
    sizeRight
      ? `Segment ${wrong.segment} of the payload is not the one whose digest the head states.`
      : `The payload has ${source.sizeBytes} bytes, the head says ${head.payloadSizeBytes}.`,
  );
}

/** What the key signed. Throws as `verifiedOmsStatement` and `parseOmsStatement`. */
export function verifyOmsBundle(bundle: Uint8Array, signer: KeyObject): OmsManifest {
  return parseOmsStatement(verifiedOmsStatement(bundle, signer));
}

/**
 * Holds the folder against a verified manifest: resolves to the paths that it covers, head and payload among them.
 * `payloadMatchesHead`: the caller has just checked the whole payload by the digest table, so that shards as long as
 * segments need not be read again. Throws OMS_FILES_DIFFER.
 */
export async function verifyOmsFiles(
  sealed: string,
  manifest: OmsManifest,
  {
    head,
    payloadMatchesHead,
    signal,
  }: { readonly head: Head; readonly payloadMatchesHead: boolean } & Observe,
): Promise<readonly string[]> {
  const { serialization, ignorePaths } = manifest;
  const files = await filesOf(sealed, ignorePaths);
  const paths = files.map(({ path }) => path);
  for (const path of ['head', 'payload']) if (!paths.includes(path)) throw differ(`it leaves ${path} out`);
  const known =
    payloadMatchesHead && segmentsAreShards(head, serialization) ? shardsOfTable(head) : undefined;
  const found: OmsResource[] = [];
  for (const file of files) {
    if (file.path === 'head') found.push(...resourcesOfHead(head, serialization));
    else if (file.path === 'payload' && known !== undefined) found.push(...known);
    else found.push(...(await resourcesOf(sealed, file, serialization, { signal })));
  }
  expectResources(manifest, found);
  return paths;
}

/** The digests of the table, under the names of shards. */
function shardsOfTable(head: Head): OmsResource[] {
  const serialization = serializationFor(head, 'shards');
  const file = { path: 'payload', sizeBytes: head.payloadSizeBytes };
  return [...rangesOf(file, serialization)].map(({ name }, segment) => ({
    name,
    sha256: Buffer.from(
      head.parts.digests.subarray(segment * DIGEST_BYTES, (segment + 1) * DIGEST_BYTES),
    ).toString('hex'),
  }));
}

function serializationFor(head: Head, method: OmsSerialization['method']): OmsSerialization {
  const shardBytes = head.geometry.chunkBytes * head.geometry.chunksPerSegment;
  return method === 'files' ? { method } : { method, shardBytes };
}

function segmentsAreShards(head: Head, serialization: OmsSerialization): boolean {
  const own = serializationFor(head, 'shards');
  return (
    serialization.method === 'shards' &&
    own.method === 'shards' &&
    own.shardBytes === serialization.shardBytes
  );
}

/** Of the head that was read and judged, whatever lies in the folder by now. */
function resourcesOfHead({ parts }: Head, serialization: OmsSerialization): OmsResource[] {
  const bytes = Buffer.concat([parts.preludeAndCore, parts.commitment, parts.mac, parts.tags, parts.digests]);
  const file = { path: 'head', sizeBytes: bytes.length };
  return [...rangesOf(file, serialization)].map(({ name, start, length }) => ({
    name,
    sha256: createHash('sha256')
      .update(bytes.subarray(start, start + length))
      .digest('hex'),
  }));
}
