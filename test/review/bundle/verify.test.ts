/** A bundle proves what it says years later, and each part that was exchanged for another is found by its own check. */
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { decodeArchive, encodeArchive, type Member } from '../../../review/bundle/archive.ts';
import { decodeIndex, encodeIndex, sha256Of } from '../../../review/bundle/bundle-index.ts';
import type { CheckId } from '../../../review/bundle/checks.ts';
import { type BundleMaking, type BundleParts, makeBundle } from '../../../review/bundle/make.ts';
import { bundleJson, bundleText } from '../../../review/bundle/report-text.ts';
import { signIndex } from '../../../review/bundle/signature.ts';
import {
  type BundleExpectations,
  type BundleVerification,
  verifyBundle,
} from '../../../review/bundle/verify.ts';
import { generateKeyPolicy } from '../../../review/policy/generate.ts';
import { parseRegisters } from '../../../review/registers.ts';
import { formatRelease, parseRelease } from '../../../review/releases.ts';
import { awsNitroAnchor } from '../../../shared/attestation/anchors.ts';
import { parseAttestationDocument } from '../../../shared/attestation/parse.ts';
import { signManifest } from '../../../shared/sealed-model/manifest-sign.ts';
import { describeWithVectors } from '../../vectors.ts';
import { ATTESTED, newRelease, type Release } from './release.ts';

const MADE = new Date('2026-01-03T21:00:00.000Z');
const HOUR_MS = 3_600_000;
const reviewer = generateKeyPairSync('ed25519');

let release: Release;
let archive: Uint8Array;
beforeAll(async () => {
  release = await newRelease();
  archive = bundle();
});

function bundle(parts: Partial<BundleParts> = {}, making: Partial<BundleMaking> = {}): Uint8Array {
  return makeBundle(
    { ...release, ...parts },
    { made: MADE, at: ATTESTED, toolVersion: '1.2.3', signer: undefined, ...making },
  );
}

function verify(bytes: Uint8Array, expected: Partial<BundleExpectations> = {}): BundleVerification {
  return verifyBundle(bytes, {
    anchors: [release.anchor],
    at: 'document',
    signer: undefined,
    image: undefined,
    ...expected,
  });
}

const failed = ({ checks }: BundleVerification): Partial<Record<CheckId, string | null>> =>
  Object.fromEntries(
    checks
      .filter(({ outcome }) => outcome === 'failed' || outcome === 'undecided')
      .map(({ check, code }) => [check, code]),
  );

/** The bundle with members exchanged, and an index that agrees. */
function exchanged(members: Readonly<Record<string, Uint8Array | undefined>>): Uint8Array {
  const kept = decodeArchive(archive).filter(
    ({ name }) => !Object.hasOwn(members, name) && name !== 'index.json',
  );
  const added = Object.entries(members).flatMap(([name, bytes]): Member[] =>
    bytes === undefined ? [] : [{ name, bytes }],
  );
  const all = [...kept, ...added];
  const old = decodeIndex(
    decodeArchive(archive).find(({ name }) => name === 'index.json')?.bytes as Uint8Array,
  );
  const digests = new Map(all.map(({ name, bytes }) => [name, sha256Of(bytes)]));
  return encodeArchive([...all, { name: 'index.json', bytes: encodeIndex({ ...old, digests }) }]);
}

describe('a bundle', () => {
  it('is in order: every check that can be made is ticked off', () => {
    const result = verify(archive);
    expect(failed(result)).toEqual({});
    expect(result.error).toBeUndefined();
    expect(result.checks.filter(({ outcome }) => outcome !== 'passed').map(({ check }) => check)).toEqual([
      'signature',
      'image-file',
    ]);
    expect(result).toMatchObject({
      trust: 'simulation',
      release: 'strongroom 1.4.0',
      models: [{ name: 'iris', version: 3 }],
      verdict: 'ONLY_IMAGE_IF_ADMINS_TRUSTED',
    });
    expect(Object.keys(result.registers)).toEqual(['PCR0', 'PCR1', 'PCR2', 'PCR3', 'PCR16']);
  });

  it('is the same bytes for the same parts', () => {
    expect(bundle()).toEqual(archive);
  });

  it('holds in ten years at the time that is given, and not at another', () => {
    expect(verify(archive, { at: ATTESTED }).error).toBeUndefined();
    expect(verify(archive, { at: new Date(ATTESTED.getTime() + HOUR_MS) }).error).toBeUndefined();
    const tenYears = new Date(ATTESTED.getTime() + 87_600 * HOUR_MS);
    expect(failed(verify(archive, { at: tenYears }))).toEqual({
      attestation: 'ATTESTATION_EXPIRED',
    });
    const before = new Date(ATTESTED.getTime() - 24 * HOUR_MS);
    expect(failed(verify(archive, { at: before }))).toHaveProperty('attestation');
  });

  it('of a simulation is refused where AWS is asked for', () => {
    expect(failed(verify(archive, { anchors: [awsNitroAnchor()] }))).toEqual({
      attestation: 'ATTESTATION_UNTRUSTED_ROOT',
    });
  });

  it('may lack release, models and a host role, which is said', () => {
    const less = bundle({ release: undefined, modelManifests: [], hostRoleArn: undefined });
    const result = verify(less);
    expect(result.error).toBeUndefined();
    expect(result.checks.filter(({ outcome }) => outcome === 'not-asked').map(({ check }) => check)).toEqual([
      'signature',
      'image-file',
      'release',
      'release-deployment',
      'models',
      'attested-host',
    ]);
    expect(bundleText(result)).toContain('which models were loaded');
  });
});

describe('a signature', () => {
  const otherKey = generateKeyPairSync('ed25519').publicKey;

  it('of the given key is found, of Ed25519 and of P-256', () => {
    for (const { privateKey, publicKey } of [reviewer, release.signer]) {
      const signed = bundle({}, { signer: privateKey });
      const result = verify(signed, { signer: publicKey });
      expect(result.checks.find(({ check }) => check === 'signature')?.outcome).toBe('passed');
      expect(bundleText(result)).not.toContain('who made this bundle');
    }
  });

  it('of another key, over another index, or missing is refused', () => {
    const { privateKey, publicKey } = reviewer;
    const signed = bundle({}, { signer: privateKey });
    expect(failed(verify(signed, { signer: otherKey }))).toEqual({ signature: 'BUNDLE_UNSIGNED' });
    expect(failed(verify(archive, { signer: publicKey }))).toEqual({ signature: 'BUNDLE_UNSIGNED' });
    const stolen = decodeArchive(bundle({ modelManifests: [] }, { signer: privateKey })).filter(
      ({ name }) => name === 'index.dsse.json',
    );
    const moved = encodeArchive([...decodeArchive(archive), ...stolen]);
    expect(failed(verify(moved, { signer: publicKey }))).toEqual({ signature: 'BUNDLE_UNSIGNED' });
  });

  it('that is no envelope is refused', () => {
    const bytes = Buffer.from('{"payload": "", "payloadType": "x", "signatures": []}');
    const odd = encodeArchive([...decodeArchive(archive), { name: 'index.dsse.json', bytes }]);
    expect(failed(verify(odd, { signer: reviewer.publicKey }))).toEqual({ signature: 'BUNDLE_MALFORMED' });
  });

  it('by an unsupported key is not made', () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
    expect(() => signIndex(Buffer.from('{}'), privateKey)).toThrow(
      expect.objectContaining({ code: 'BUNDLE_SIGNER_UNSUPPORTED' }),
    );
  });
});

describe('a part that was exchanged', () => {
  it('without its digest is found by the digest, whichever it is', () => {
    for (const { name, bytes } of decodeArchive(archive)) {
      if (name === 'index.json') continue;
      const changed = Buffer.from(bytes);
      changed[changed.length - 2] = (changed.at(-2) as number) ^ 1;
      const others = decodeArchive(archive).filter((member) => member.name !== name);
      const result = verify(encodeArchive([...others, { name, bytes: changed }]));
      expect(failed(result).digests, name).toBe('BUNDLE_DIGEST');
      expect(result.error?.code, name).toBe('BUNDLE_DIGEST');
    }
  });

  it('that is not in the index, or only there, is found', () => {
    const members = decodeArchive(archive);
    const more = encodeArchive([...members, { name: 'context.json', bytes: Buffer.from('{}') }]);
    expect(failed(verify(more))).toEqual({ digests: 'BUNDLE_DIGEST' });
    const fewer = encodeArchive(members.filter(({ name }) => name !== 'release.json'));
    expect(failed(verify(fewer))).toEqual({ digests: 'BUNDLE_DIGEST' });
  });

  it('and is one that every bundle has makes it no bundle', () => {
    for (const name of ['attestation.cbor', 'image.json', 'index.json', 'policy.json']) {
      const without = encodeArchive(decodeArchive(archive).filter((member) => member.name !== name));
      expect(() => verify(without), name).toThrow(expect.objectContaining({ code: 'BUNDLE_INCOMPLETE' }));
    }
  });

  it('for the image of another release is found', async () => {
    const { image } = await newRelease({ image: 'another' });
    expect(failed(verify(exchanged({ 'image.json': image })))).toEqual({
      release: 'BUNDLE_MISMATCH',
      'attested-image': 'BUNDLE_MISMATCH',
      review: 'BUNDLE_REVIEW_CHANGED',
    });
  });

  it('for an image in debug mode is found', async () => {
    const zero = '0'.repeat(96);
    const image = Buffer.from(JSON.stringify({ PCR0: zero, PCR1: zero, PCR2: zero }));
    const { attestation, anchor } = await newRelease({ debug: true });
    const result = verify(exchanged({ 'image.json': image, 'attestation.cbor': attestation }), {
      anchors: [anchor],
    });
    expect(failed(result)).toMatchObject({ image: 'BUNDLE_MISMATCH' });
    expect(
      failed(verify(exchanged({ 'attestation.cbor': attestation }), { anchors: [anchor] })),
    ).toMatchObject({
      'attested-image': 'BUNDLE_MISMATCH',
    });
  });

  it('for registers without PCR2 is found', () => {
    const { PCR2: _, ...some } = JSON.parse(Buffer.from(release.image).toString()).Measurements;
    expect(
      failed(verify(exchanged({ 'image.json': Buffer.from(JSON.stringify({ Measurements: some })) }))),
    ).toEqual({
      image: 'BUNDLE_MISMATCH',
    });
  });

  it('for a deployment that was not attested is found', () => {
    const deployment = Buffer.concat([release.deployment, Buffer.from('\n')]);
    expect(failed(verify(exchanged({ 'deployment.json': deployment })))).toEqual({
      'release-deployment': 'BUNDLE_MISMATCH',
      'attested-deployment': 'BUNDLE_MISMATCH',
      review: 'BUNDLE_REVIEW_CHANGED',
    });
  });

  it('for what is no deployment is found', () => {
    expect(failed(verify(exchanged({ 'deployment.json': Buffer.from('{}') })))).toMatchObject({
      deployment: 'DEPLOYMENT_MALFORMED',
    });
  });

  it('for a model by somebody else, too old, or not named is found', async () => {
    const other = await newRelease();
    expect(failed(verify(exchanged({ 'models/iris.json': other.modelManifests[0] })))).toEqual({
      models: 'SEALED_MANIFEST_UNSIGNED',
    });
    const fields = {
      name: 'iris',
      version: 2,
      format: 'onnx',
      contentId: 'ab'.repeat(32),
      files: [{ path: 'model.onnx', sizeBytes: 4, sha256: 'cd'.repeat(32) }],
    };
    const { privateKey } = release.signer;
    expect(failed(verify(exchanged({ 'models/iris.json': signManifest(fields, privateKey) })))).toEqual({
      models: 'BUNDLE_MISMATCH',
    });
    const rose = signManifest({ ...fields, name: 'rose', version: 3 }, privateKey);
    expect(failed(verify(exchanged({ 'models/rose.json': rose })))).toEqual({ models: 'BUNDLE_MISMATCH' });
    expect(failed(verify(exchanged({ 'models/iris.json': rose })))).toEqual({ models: 'BUNDLE_MISMATCH' });
  });

  it('for an attestation of another host is found', async () => {
    const { attestation, anchor } = await newRelease({ host: 'arn:aws:iam::111122223333:role/Other' });
    const result = verify(exchanged({ 'attestation.cbor': attestation }), { anchors: [anchor] });
    expect(failed(result)).toMatchObject({ 'attested-host': 'BUNDLE_MISMATCH' });
  });

  it('for what is no attestation document is found, and nothing is judged at a time that nobody gave', () => {
    const result = verify(exchanged({ 'attestation.cbor': Buffer.from('no') }));
    expect(result.at).toBeUndefined();
    expect(Object.keys(failed(result))).toEqual(['attestation']);
    expect(result.checks.find(({ check }) => check === 'verdict')?.outcome).toBe('not-reached');
    expect(result.error?.exitCode).toBe(2);
  });

  it('for a policy that was not reviewed is found', () => {
    const policy = generateKeyPolicy({
      accountId: '111122223333',
      hostRoleArn: release.hostRoleArn,
      administratorArns: ['arn:aws:iam::111122223333:role/Other'],
      sealerArns: ['arn:aws:iam::111122223333:role/ModelOwner'],
      releases: [{ pcr0: '11'.repeat(48), pcr16: '22'.repeat(48), modelName: 'iris' }],
    });
    expect(failed(verify(exchanged({ 'policy.json': Buffer.from(policy) })))).toEqual({
      review: 'BUNDLE_MISMATCH',
    });
  });

  it('for a review that is none is found', () => {
    for (const bytes of ['', '[]', '{}', '{"schema": {"name": "other"}}', '{"schema": {}, "schema": {}}']) {
      expect(failed(verify(exchanged({ 'policy-review.json': Buffer.from(bytes) })))).toEqual({
        review: 'BUNDLE_MALFORMED',
      });
    }
  });
});

describe('the policy is reviewed again', () => {
  /** The generated policy with one more statement. */
  const withStatement = (statement: object): Uint8Array => {
    const policy = JSON.parse(Buffer.from(release.policy).toString());
    policy.Statement.push(statement);
    return Buffer.from(JSON.stringify(policy, undefined, 2));
  };
  const everybody = { Sid: 'Oops', Effect: 'Allow', Resource: '*' };
  const grants = {
    ...everybody,
    Principal: { AWS: 'arn:aws:iam::111122223333:role/KeyAdmin' },
    Action: 'kms:Encrypt',
  };
  const withoutDenies = (): Uint8Array => {
    const policy = JSON.parse(Buffer.from(release.policy).toString());
    policy.Statement = policy.Statement.filter(({ Effect }: { Effect: string }) => Effect === 'Allow');
    policy.Statement.push({ ...everybody, Principal: { AWS: release.hostRoleArn }, Action: 'kms:Decrypt' });
    return Buffer.from(JSON.stringify(policy, undefined, 2));
  };
  const recorded = (bytes: Uint8Array) =>
    JSON.parse(
      Buffer.from(
        decodeArchive(bytes).find(({ name }) => name === 'policy-review.json')?.bytes ?? [],
      ).toString(),
    );

  it('and is a yes for what the generator writes', () => {
    expect(recorded(archive).verdict).toBe('ONLY_IMAGE_IF_ADMINS_TRUSTED');
    expect(verify(archive).verdict).toBe('ONLY_IMAGE_IF_ADMINS_TRUSTED');
  });

  it('and another verdict or severity than the recorded one is refused, better or worse', () => {
    const review = recorded(archive);
    for (const change of [{ verdict: 'ONLY_IMAGE' }, { verdict: 'BYPASS' }, { severity: 'info' }]) {
      const bytes = Buffer.from(JSON.stringify({ ...review, ...change }));
      expect(failed(verify(exchanged({ 'policy-review.json': bytes })))).toEqual({
        review: 'BUNDLE_REVIEW_CHANGED',
      });
    }
  });

  it('and a policy that lets somebody else in is refused, though that was recorded', () => {
    const bad = bundle({ policy: withoutDenies() });
    expect(recorded(bad).verdict).toBe('BYPASS');
    const result = verify(bad);
    expect(failed(result)).toEqual({ verdict: 'BUNDLE_VERDICT' });
    expect(result.error?.exitCode).toBe(1);
    expect(bundleText(result)).toMatch(/^Refused: /);
  });

  it('and where it cannot decide, nobody does', () => {
    const unclear = bundle({
      policy: withStatement({
        ...everybody,
        Effect: 'Deny',
        Action: 'kms:Decrypt',
        Principal: undefined,
        NotPrincipal: { AWS: release.hostRoleArn },
      }),
    });
    expect(recorded(unclear).verdict).toBe('AMBIGUOUS');
    const result = verify(unclear);
    expect(failed(result)).toEqual({ verdict: 'BUNDLE_UNDECIDED' });
    expect(result.error?.exitCode).toBe(3);
    expect(bundleText(result)).toMatch(/^Cannot decide: /);
  });

  it('and a document that AWS refuses is no yes', () => {
    const result = verify(bundle({ policy: withStatement({ ...grants, Sids: 'x' }) }));
    expect(failed(result)).toEqual({ verdict: 'BUNDLE_UNDECIDED' });
  });

  it('with the context that was bundled', () => {
    const context = Buffer.from(
      JSON.stringify({ keyMetadata: { KeyMetadata: { Origin: 'EXTERNAL', KeySpec: 'SYMMETRIC_DEFAULT' } } }),
    );
    const imported = bundle({ context });
    expect(recorded(imported).verdict).toBe('OUT_OF_BAND');
    expect(failed(verify(imported))).toEqual({ verdict: 'BUNDLE_VERDICT' });
    const without = decodeArchive(imported).filter(({ name }) => name !== 'context.json');
    expect(failed(verify(encodeArchive(without)))).toMatchObject({
      digests: 'BUNDLE_DIGEST',
      review: 'BUNDLE_REVIEW_CHANGED',
    });
    expect(failed(verify(exchanged({ 'context.json': Buffer.from('[]') })))).toEqual({
      review: 'REVIEW_CONTEXT',
    });
  });

  it('with the suppressions that were bundled, as of the given time', () => {
    const suppression = { code: 'policy-admin', reason: 'known', owner: 'security', expires: '2026-01-31' };
    const suppressions = Buffer.from(JSON.stringify({ suppressions: [suppression] }));
    const accepted = bundle({ suppressions });
    expect(failed(verify(accepted))).toEqual({});
    expect(recorded(accepted).suppressions).toMatchObject([{ state: 'applied', owner: 'security' }]);
    const expired = bundle({
      suppressions: Buffer.from(
        JSON.stringify({ suppressions: [{ ...suppression, expires: '2026-01-02' }] }),
      ),
    });
    expect(failed(verify(expired))).toEqual({ verdict: 'BUNDLE_VERDICT' });
  });
});

describe('the release', () => {
  it('that was withdrawn is refused from then on', () => {
    const named = parseRelease(release.release);
    const withdrawn = (at: Date) =>
      exchanged({
        'release.json': Buffer.from(formatRelease({ ...named, withdrawn: { at, reason: 'a leak' } })),
      });
    expect(failed(verify(withdrawn(ATTESTED)))).toEqual({ release: 'BUNDLE_WITHDRAWN' });
    expect(failed(verify(withdrawn(new Date(ATTESTED.getTime() + HOUR_MS))))).toEqual({});
  });

  it('is held against the image file, measured again', async () => {
    const image = parseRegisters(release.image);
    const same = verify(archive, { image });
    expect(same.checks.find(({ check }) => check === 'image-file')?.outcome).toBe('passed');
    expect(bundleText(same)).not.toContain('give --image');
    const { image: other } = await newRelease({ image: 'another' });
    expect(failed(verify(archive, { image: parseRegisters(other) }))).toEqual({
      'image-file': 'BUNDLE_MISMATCH',
    });
    const signed = new Map([...image, [8, '88'.repeat(48)]]);
    expect(failed(verify(archive, { image: signed }))).toEqual({ 'image-file': 'BUNDLE_MISMATCH' });
  });
});

describe('the index', () => {
  const indexOf = (change: (index: Record<string, unknown>) => unknown): Uint8Array => {
    const members = decodeArchive(archive);
    const index = members.find(({ name }) => name === 'index.json') as Member;
    const value = JSON.parse(Buffer.from(index.bytes).toString());
    const bytes = Buffer.from(JSON.stringify(change(value) ?? value));
    return encodeArchive([
      ...members.filter(({ name }) => name !== 'index.json'),
      { name: 'index.json', bytes },
    ]);
  };

  it.each<[string, (index: Record<string, never> & { predicate: never; subject: never[] }) => unknown]>([
    ['is of another kind', (index) => ({ ...index, predicateType: 'urn:other' })],
    ['has more members', (index) => ({ ...index, more: 1 })],
    [
      'does not say when',
      (index) => ({ ...index, predicate: { ...(index.predicate as object), made: 'today' } }),
    ],
    [
      'does not say by what',
      (index) => ({ ...index, predicate: { ...(index.predicate as object), tool: {} } }),
    ],
    ['lists nothing', (index) => ({ ...index, subject: {} })],
    [
      'lists a name that no bundle has',
      (index) => ({ ...index, subject: [{ name: '../x', digest: { sha256: '0' } }] }),
    ],
    ['lists one twice', (index) => ({ ...index, subject: [...index.subject, index.subject[0]] })],
  ])('that %s makes it no bundle', (_what, change) => {
    expect(() => verify(indexOf(change as never))).toThrow(
      expect.objectContaining({ code: 'BUNDLE_MALFORMED' }),
    );
  });
});

describe('what is said of it', () => {
  it('is one sentence first, then every check, then what nobody vouches for', () => {
    const lines = bundleText(verify(archive)).split('\n');
    expect(lines[0]).toBe(
      'In order at 2026-01-03T20:40:28.841Z, IN SIMULATION: image, deployment, attestation and key policy belong together. Only the reviewed image gets this key, as long as role KeyAdmin does not change the policy.',
    );
    expect(lines.filter((line) => line.startsWith('  [x]'))).toHaveLength(12);
    expect(lines).toContain('Not proven:');
  });

  it('names the fault and what to do about it', () => {
    const text = bundleText(verify(archive, { anchors: [awsNitroAnchor()] }));
    expect(text).toMatch(/^Refused: .*\n {2}code: ATTESTATION_UNTRUSTED_ROOT\n {2}next: /);
  });

  it('is the same as JSON', () => {
    const value = JSON.parse(JSON.stringify(bundleJson(verify(archive))));
    expect(value).toMatchObject({
      schema: { name: 'strongroom-evidence-verification', version: 1 },
      inOrder: true,
      code: null,
      trust: 'simulation',
      release: 'strongroom 1.4.0',
      verdict: 'ONLY_IMAGE_IF_ADMINS_TRUSTED',
    });
    expect(value.checks).toHaveLength(14);
  });
});

describeWithVectors('a document that AWS hardware signed', (vectors) => {
  it('is genuine years later at its own time, and of its image; that its deployment is another is found', () => {
    const attestation = readFileSync(join(vectors, 'attestation', 'base-2024-11-30.cbor'));
    const { pcrs } = parseAttestationDocument(attestation, {}).untrusted;
    const image = Buffer.from(
      JSON.stringify(
        Object.fromEntries(
          [0, 1, 2].map((index) => [`PCR${index}`, Buffer.from(pcrs.get(index) ?? []).toString('hex')]),
        ),
      ),
    );
    const real = exchanged({
      'attestation.cbor': attestation,
      'image.json': image,
      'release.json': undefined,
    });
    const result = verify(real, { anchors: [awsNitroAnchor()] });
    expect(result.trust).toBe('aws-nitro');
    const passed = result.checks.filter(({ outcome }) => outcome === 'passed').map(({ check }) => check);
    expect(passed).toEqual(expect.arrayContaining(['digests', 'image', 'attestation', 'attested-image']));
    expect(failed(result)).toMatchObject({ 'attested-deployment': 'BUNDLE_MISMATCH' });
    expect(bundleText(result)).not.toContain('SIMULATION');
  });
});
