/**
 * Re-checks a bundle offline, at a time that is given: is it whole, of one image, of one deployment, attested, and is the
 * key locked to that? Nothing in it is believed because the bundle says so, the recorded verdict least of all.
 */
import { createHash, type KeyObject } from 'node:crypto';
import type { Trust, TrustAnchor } from '../../shared/attestation/anchors.ts';
import { parseAttestationDocument } from '../../shared/attestation/parse.ts';
import { type VerifiedDocument, verifyAttestationDocument } from '../../shared/attestation/verify.ts';
import { type Deployment, type ModelPin, parseDeployment } from '../../shared/deployment/deployment.ts';
import type { StrongroomError } from '../../shared/errors.ts';
import { DEPLOYMENT_PCR, pcrOfMeasuredBytes, pcrOfText } from '../../shared/pcr.ts';
import {
  type ManifestFields,
  parseEnvelope,
  parseStatement,
  verifyManifest,
} from '../../shared/sealed-model/manifest.ts';
import { Ticks } from '../../shared/ticks.ts';
import type { PolicyReviewReport } from '../policy/report.ts';
import { parseRegisters, type Registers } from '../registers.ts';
import { nameOfRelease, parseRelease, type Release } from '../releases.ts';
import { decodeArchive, type Member } from './archive.ts';
import { type BundleIndex, decodeIndex, expectMembersOf, sha256Of } from './bundle-index.ts';
import { type BundleTicks, CHECKS, type CheckResult } from './checks.ts';
import { EvidenceBundleError, type EvidenceBundleErrorCode } from './errors.ts';
import { INDEX, modelOfMember, REQUIRED, SIGNATURE } from './members.ts';
import { readRecordedReview } from './recorded-review.ts';
import { reviewAgain } from './review-again.ts';
import { expectIndexSigned } from './signature.ts';

export interface BundleExpectations {
  /** Whose attestation documents are genuine. */
  readonly anchors: readonly TrustAnchor[];
  /** When everything must hold: certificates, suppressions, releases. `document`: when the enclave attested. */
  readonly at: Date | 'document';
  /** Who must have signed the index; undefined: nobody is asked to. */
  readonly signer: KeyObject | undefined;
  /** The image, measured again; undefined where nobody has the file. */
  readonly image: Registers | undefined;
}

export interface BundleVerification {
  readonly checks: readonly CheckResult[];
  /** The first fault; undefined if all that could be checked holds. */
  readonly error: StrongroomError | undefined;
  /** As the index has it: claims, unless it is signed. */
  readonly index: BundleIndex;
  /** The instant of every judgement; undefined where the document's own was asked for and cannot be read. */
  readonly at: Date | undefined;
  readonly trust: Trust | undefined;
  /** `PCR0` and so on of image, deployment and host. */
  readonly registers: Readonly<Record<string, string>>;
  readonly release: string | undefined;
  readonly models: readonly ManifestFields[];
  readonly verdict: string | undefined;
  readonly sentence: string | undefined;
}

/**
 * Faults of what is in it are returned as failed checks. Throws EvidenceBundleError BUNDLE_MALFORMED and
 * BUNDLE_INCOMPLETE for what is no bundle.
 */
export function verifyBundle(archive: Uint8Array, expected: BundleExpectations): BundleVerification {
  const members = decodeArchive(archive);
  const parts = partsOf(members);
  const index = decodeIndex(parts.need(INDEX));
  const ticks = new Ticks(CHECKS);
  checkWhole(ticks, parts, index, expected.signer);

  const at = expected.at === 'document' ? timeOf(parts.need('attestation.cbor')) : expected.at;
  const image = checkImage(ticks, parts, expected.image);
  const release = checkRelease(ticks, parts, image, at);
  const deployment = checkDeployment(ticks, parts, release);
  const models = checkModels(ticks, parts, deployment);
  const registers = registersOf(image, deployment, index);
  const document = checkAttestation(ticks, parts, expected.anchors, at);
  checkAttested(ticks, document, registers, index);
  const report = checkPolicy(ticks, parts, { registers, index, release, at });

  return {
    checks: ticks.results(),
    error: ticks.error,
    index,
    at,
    trust: document?.trust,
    registers: Object.fromEntries(registers),
    release: release && nameOfRelease(release),
    models,
    verdict: report?.verdict,
    sentence: report?.sentence,
  };
}

interface Parts {
  readonly members: readonly Member[];
  find(name: string): Uint8Array | undefined;
  /** One that every bundle has. */
  need(name: (typeof REQUIRED)[number]): Uint8Array;
}

function partsOf(members: readonly Member[]): Parts {
  const find = (name: string) => members.find((member) => member.name === name)?.bytes;
  const missing = REQUIRED.filter((name) => find(name) === undefined);
  if (missing.length > 0) {
    throw new EvidenceBundleError('BUNDLE_INCOMPLETE', `The bundle lacks ${missing.join(', ')}.`);
  }
  return { members, find, need: (name) => find(name) as Uint8Array };
}

function checkWhole(
  ticks: BundleTicks,
  parts: Parts,
  index: BundleIndex,
  signer: KeyObject | undefined,
): void {
  ticks.make(
    'digests',
    () => expectMembersOf(index, parts.members),
    () => `${index.digests.size} members`,
  );
  const signature = parts.find(SIGNATURE);
  if (signer === undefined) {
    ticks.notAsked(
      'signature',
      signature === undefined ? 'nobody signed it' : 'signed; no key was given to check with',
    );
    return;
  }
  ticks.make(
    'signature',
    () => expectIndexSigned(parts.need(INDEX), signature, signer),
    () => `made ${index.made.toISOString()}`,
  );
}

/** Read only to learn when it was made; whether it is genuine is checked after. */
function timeOf(document: Uint8Array): Date | undefined {
  try {
    return new Date(parseAttestationDocument(document, {}).untrusted.timestampMs);
  } catch {
    return undefined;
  }
}

const IMAGE_REGISTERS = [0, 1, 2] as const;

function checkImage(ticks: BundleTicks, parts: Parts, again: Registers | undefined): Registers | undefined {
  const image = ticks.make(
    'image',
    () => {
      const registers = parseRegisters(parts.need('image.json'));
      for (const register of IMAGE_REGISTERS) {
        const value = registers.get(register);
        if (value === undefined) throw mismatch(`image.json has no PCR${register}`);
        if (/^0+$/.test(value)) throw mismatch(`PCR${register} is zero: that is an enclave in debug mode`);
      }
      return registers;
    },
    (registers) => `PCR0 ${registers.get(0)}`,
  );
  if (again === undefined) ticks.notAsked('image-file', 'no image file was given');
  else if (image !== undefined) {
    ticks.make(
      'image-file',
      () => expectSame([...IMAGE_REGISTERS, 8], image, again, 'image.json', 'the image file'),
      () => 'PCR0, PCR1, PCR2, and PCR8 if it is signed',
    );
  }
  return image;
}

function checkRelease(
  ticks: BundleTicks,
  parts: Parts,
  image: Registers | undefined,
  at: Date | undefined,
): Release | undefined {
  const bytes = parts.find('release.json');
  if (bytes === undefined) {
    ticks.notAsked('release', 'the bundle has no release manifest');
    return undefined;
  }
  if (image === undefined) return undefined;
  return ticks.make(
    'release',
    () => {
      const release = parseRelease(bytes);
      const named = new Map(Object.entries(release.pcrs).map(([name, value]) => [Number(name), value]));
      expectSame([...IMAGE_REGISTERS, 8], image, named, 'image.json', 'the release manifest');
      const { withdrawn } = release;
      if (withdrawn !== undefined && (at === undefined || withdrawn.at <= at)) {
        throw fault(
          'BUNDLE_WITHDRAWN',
          `${nameOfRelease(release)} was withdrawn on ${withdrawn.at.toISOString()}: ${withdrawn.reason}`,
        );
      }
      return release;
    },
    nameOfRelease,
  );
}

interface MeasuredDeployment {
  readonly deployment: Deployment;
  readonly pcr16: string;
}

function checkDeployment(
  ticks: BundleTicks,
  parts: Parts,
  release: Release | undefined,
): MeasuredDeployment | undefined {
  const bytes = parts.need('deployment.json');
  const measured = ticks.make(
    'deployment',
    () => ({ deployment: parseDeployment(bytes), pcr16: hex(pcrOfMeasuredBytes(bytes)) }),
    ({ pcr16 }) => `PCR16 ${pcr16}`,
  );
  const named = release?.deployments ?? [];
  if (named.length === 0) ticks.notAsked('release-deployment', 'no release manifest names deployments');
  else {
    const sha384 = createHash('sha384').update(bytes).digest('hex');
    ticks.make(
      'release-deployment',
      () => {
        if (!named.some((one) => one.sha384 === sha384))
          throw mismatch(`the release manifest does not name ${sha384}`);
      },
      () => `SHA-384 ${sha384}`,
    );
  }
  return measured;
}

function checkModels(
  ticks: BundleTicks,
  parts: Parts,
  measured: MeasuredDeployment | undefined,
): readonly ManifestFields[] {
  const manifests = parts.members.flatMap(({ name, bytes }) => {
    const model = modelOfMember(name);
    return model === undefined ? [] : [{ model, bytes }];
  });
  if (manifests.length === 0) ticks.notAsked('models', 'the bundle has no model manifest');
  else if (measured !== undefined) {
    const pins = measured.deployment.models;
    const found = ticks.make(
      'models',
      () => manifests.map(({ model, bytes }) => expectManifest(pins, model, bytes)),
      (fields) =>
        fields
          .map(({ name, version, contentId }) => `${name} version ${version}, content id ${contentId}`)
          .join('; '),
    );
    return found ?? [];
  }
  return [];
}

function expectManifest(pins: readonly ModelPin[], model: string, bytes: Uint8Array): ManifestFields {
  const pin = pins.find(({ name }) => name === model);
  if (pin === undefined) throw mismatch(`the deployment names no model ${model}`);
  const fields =
    pin.kind === 'signer' ? verifyManifest(bytes, pin.signer) : parseStatement(parseEnvelope(bytes).payload);
  if (fields.name !== model) throw mismatch(`the manifest of ${model} is of ${fields.name}`);
  if (pin.kind === 'signer' && fields.version < pin.minimumVersion) {
    throw mismatch(
      `${model} is version ${fields.version}, the deployment asks for ${pin.minimumVersion} or later`,
    );
  }
  if (pin.kind === 'content' && fields.contentId !== pin.contentId) {
    throw mismatch(`${model} has content id ${fields.contentId}, the deployment asks for ${pin.contentId}`);
  }
  return fields;
}

/** `PCR0` and so on: what image, deployment and host together must measure to. */
function registersOf(
  image: Registers | undefined,
  deployment: MeasuredDeployment | undefined,
  { hostRoleArn }: BundleIndex,
): Map<string, string> {
  const registers = new Map([...(image ?? [])].map(([index, value]) => [`PCR${index}`, value]));
  if (hostRoleArn !== undefined) registers.set('PCR3', hex(pcrOfText(hostRoleArn)));
  if (deployment !== undefined) registers.set(`PCR${DEPLOYMENT_PCR}`, deployment.pcr16);
  return registers;
}

function checkAttestation(
  ticks: BundleTicks,
  parts: Parts,
  anchors: readonly TrustAnchor[],
  at: Date | undefined,
): VerifiedDocument | undefined {
  return ticks.make(
    'attestation',
    () => {
      const parsed = parseAttestationDocument(parts.need('attestation.cbor'), {});
      return verifyAttestationDocument(parsed, { anchors, at: at ?? new Date(Number.NaN) });
    },
    ({ trust, fields, notAfter }) =>
      `trust ${trust}, dated ${new Date(fields.timestampMs).toISOString()}, certificates until ${notAfter.toISOString()}`,
  );
}

function checkAttested(
  ticks: BundleTicks,
  document: VerifiedDocument | undefined,
  registers: ReadonlyMap<string, string>,
  { hostRoleArn }: BundleIndex,
): void {
  const attested =
    document && new Map([...document.fields.pcrs].map(([index, value]) => [index, hex(value)]));
  const expected = new Map([...registers].map(([name, value]) => [Number(name.slice(3)), value]));
  const check = (
    id: 'attested-image' | 'attested-deployment' | 'attested-host',
    indexes: readonly number[],
    from: string,
  ) => {
    if (attested === undefined || !indexes.every((index) => expected.has(index))) return;
    ticks.make(
      id,
      () => expectSame(indexes, expected, attested, from, 'the attestation document'),
      () => indexes.map((index) => `PCR${index}`).join(', '),
    );
  };
  check('attested-image', [0, 1, 2, ...(expected.has(8) ? [8] : [])], 'image.json');
  check('attested-deployment', [DEPLOYMENT_PCR], 'the deployment document');
  if (hostRoleArn === undefined) ticks.notAsked('attested-host', 'no host role was named');
  else check('attested-host', [3], `the role ${hostRoleArn}`);
}

function checkPolicy(
  ticks: BundleTicks,
  parts: Parts,
  about: {
    readonly registers: ReadonlyMap<string, string>;
    readonly index: BundleIndex;
    readonly release: Release | undefined;
    readonly at: Date | undefined;
  },
): PolicyReviewReport | undefined {
  const { registers, index, release, at } = about;
  if (at === undefined || !registers.has('PCR0')) return undefined;
  const policy = parts.need('policy.json');
  const again = ticks.make(
    'review',
    () => {
      const recorded = readRecordedReview(parts.need('policy-review.json'));
      if (recorded.policySha256 !== sha256Of(policy))
        throw mismatch('the recorded review is of another policy');
      const result = reviewAgain({
        policy,
        registers: new Map([...registers].map(([name, value]) => [Number(name.slice(3)), value])),
        hostRoleArn: index.hostRoleArn,
        keyArn: index.keyArn,
        context: parts.find('context.json'),
        suppressions: parts.find('suppressions.json'),
        release,
        at,
      });
      const { verdict, severity } = result.report;
      if (verdict !== recorded.verdict || severity !== recorded.severity) {
        throw fault(
          'BUNDLE_REVIEW_CHANGED',
          `the bundle says ${recorded.verdict} (${recorded.severity}), the review now says ${verdict} (${severity})`,
        );
      }
      return result;
    },
    ({ report }) => `${report.verdict}, severity ${report.severity}`,
  );
  if (again === undefined) return undefined;
  const { report, exitCode } = again;
  ticks.make(
    'verdict',
    () => {
      if (exitCode === 1) throw fault('BUNDLE_VERDICT', report.sentence);
      if (exitCode !== 0) throw fault('BUNDLE_UNDECIDED', report.sentence);
    },
    () => report.sentence,
  );
  return report;
}

/** Registers that neither has are alike. */
function expectSame(
  indexes: readonly number[],
  expected: Registers,
  found: Registers,
  expectedFrom: string,
  foundIn: string,
): void {
  for (const index of indexes) {
    // What is not signed has a PCR8 of zero, which some write down and some leave out.
    const [want, have] = [expected, found].map(
      (one) => one.get(index) ?? (index === 8 ? '0'.repeat(96) : 'nothing'),
    );
    if (want !== have) throw mismatch(`PCR${index} is ${want} by ${expectedFrom}, and ${have} in ${foundIn}`);
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function mismatch(why: string): EvidenceBundleError {
  return fault('BUNDLE_MISMATCH', why);
}

function fault(code: EvidenceBundleErrorCode, why: string): EvidenceBundleError {
  return new EvidenceBundleError(
    code,
    `${why.slice(0, 1).toUpperCase()}${why.slice(1)}${why.endsWith('.') ? '' : '.'}`,
  );
}
