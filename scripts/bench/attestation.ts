/**
 * How much a verified document costs beyond its five P-384 signatures (four certificates and the document).
 * Both are timed in turns in the same run, and each round of either is one sample, so that whatever else the
 * machine does falls on both.
 */
import { type KeyObject, verify, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { type Asn1, readDer } from '../../shared/asn1.ts';
import { awsNitroAnchor, simulationAnchor, type TrustAnchor } from '../../shared/attestation/anchors.ts';
import {
  PROTECTED_HEADER,
  parseAttestationDocument,
  type UnverifiedDocument,
} from '../../shared/attestation/parse.ts';
import { verifyAttestationDocument } from '../../shared/attestation/verify.ts';
import { encodeCbor } from '../../shared/cbor.ts';
import { encodeNsmRequest } from '../../shared/nsm/request.ts';
import { decodeNsmResponse } from '../../shared/nsm/response.ts';
import { createSimulatedCa } from '../../simulator/nsm/ca.ts';
import { newInstanceId, newModuleId } from '../../simulator/nsm/identity.ts';
import { SoftwareNsm } from '../../simulator/nsm/software-nsm.ts';

const BAR = 1.4;
const ROUNDS = 400;
const WARM_UP_ROUNDS = 100;

export const bench = {
  name: 'attestation',
  /** `args`: optionally a document of AWS to verify instead of a simulated one. Resolves to the exit code. */
  async run([path]: readonly string[]): Promise<number> {
    const { bytes, anchors } =
      path === undefined ? await simulated() : { bytes: await readFile(path), anchors: [awsNitroAnchor()] };
    const document = parseAttestationDocument(bytes);
    const at = new Date(document.untrusted.timestampMs);
    const signatures = fiveSignatures(document);
    const timesMs = { document: [] as number[], signatures: [] as number[] };
    for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
      const documentMs = timed(() =>
        verifyAttestationDocument(parseAttestationDocument(bytes), { anchors, at }),
      );
      const signaturesMs = timed(() => signatures.every((signature) => signature()) || fail());
      if (round < 0) continue;
      timesMs.document.push(documentMs);
      timesMs.signatures.push(signaturesMs);
    }
    const ratio = median(timesMs.document) / median(timesMs.signatures);
    const met = ratio <= BAR;
    process.stdout.write(
      `parse and verify a document: ${median(timesMs.document).toFixed(3)} ms; five P-384 verifications: ` +
        `${median(timesMs.signatures).toFixed(3)} ms (medians of ${ROUNDS}); ratio ${ratio.toFixed(2)}, ` +
        `bar ${BAR}: ${met ? 'met' : 'MISSED'}\n`,
    );
    return met ? 0 : 1;
  },
};

/** The five verifications alone, on the document's own bytes, with keys imported beforehand. */
function fiveSignatures(document: UnverifiedDocument): (() => boolean)[] {
  const { cabundle, certificate } = document.untrusted;
  const chain = [...cabundle, certificate];
  const keys = chain.map((der) => new X509Certificate(der).publicKey);
  const certificates = chain.slice(1).map((der, i) => {
    const [tbs, , signature] = readDer(der).children as [Asn1, Asn1, Asn1];
    return () => verify('sha384', tbs.raw, keys[i] as KeyObject, signature.content.subarray(1));
  });
  const signed = encodeCbor(['Signature1', PROTECTED_HEADER, new Uint8Array(0), document.payload]);
  const key = { key: keys.at(-1) as KeyObject, dsaEncoding: 'ieee-p1363' as const };
  return [...certificates, () => verify('sha384', signed, key, document.signature)];
}

async function simulated(): Promise<{ bytes: Uint8Array; anchors: readonly TrustAnchor[] }> {
  const at = new Date();
  const image = new Uint8Array(48).fill(1);
  const ca = await createSimulatedCa({ region: 'eu-central-1', now: at });
  const nsm = await SoftwareNsm.create({
    ca,
    moduleId: newModuleId(newInstanceId(), at),
    pcrs: { 0: image, 1: image, 2: image },
    now: () => at,
  });
  const request = encodeNsmRequest({
    kind: 'Attestation',
    userData: new Uint8Array(256),
    nonce: new Uint8Array(32),
    publicKey: new Uint8Array(294),
  });
  const answer = decodeNsmResponse(await nsm.handle(request));
  if (answer.kind !== 'Attestation') return fail();
  return { bytes: answer.document, anchors: [simulationAnchor(ca.rootPem)] };
}

function timed(action: () => unknown): number {
  const startedMs = performance.now();
  action();
  return performance.now() - startedMs;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] as number;
}

function fail(): never {
  throw new Error('the bench could not verify its own document');
}
