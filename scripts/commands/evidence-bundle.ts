import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { publicHalfOf, readPrivateKey } from '../../owner/secret-files.ts';
import { makeBundle } from '../../review/bundle/make.ts';
import { largestOf } from '../../review/bundle/members.ts';
import { bundleJson, bundleText } from '../../review/bundle/report-text.ts';
import { verifyBundle } from '../../review/bundle/verify.ts';
import { awsNitroAnchor } from '../../shared/attestation/anchors.ts';
import { parseAttestationDocument } from '../../shared/attestation/parse.ts';
import type { Command, CommandIo } from '../command.ts';
import { CommandError } from '../errors.ts';
import { readAttestation, readPart } from '../evidence/options.ts';
import { imageAsJson } from '../image/describe.ts';
import { measureFile } from '../image/options.ts';
import { parseTime, readAnchor } from '../proof-input.ts';
import { expectRole } from '../role-option.ts';

export const command: Command = {
  name: 'evidence bundle',
  summary: 'put the evidence of a reviewed release into one archive that can be checked later',
  help: `
Usage: strongroom evidence bundle (--image X.eif | --pcrs FILE) --deployment FILE --policy FILE --attestation FILE
                                  [--role ARN] [--key ARN] [--context FILE] [--suppress FILE] [--release FILE]
                                  [--model MANIFEST]... [--at TIME] [--root FILE] [--sign KEY] [--json] -o OUT.tar

Reviews the key policy, puts everything that a yes rests on into one archive with an index of digests, and checks the
archive as "evidence verify" will. It is written only if every check holds.

  --image X.eif       the enclave image; it is measured, and its measurements are bundled
  --pcrs FILE         measurements instead: image measure --json, or {"PCR0": "..."}
  --deployment FILE   the deployment document
  --policy FILE       the key policy that is in force
  --attestation FILE  an attestation document of the enclave: CBOR, base64, or what ask --json printed
  --role ARN          IAM role of the parent instance
  --key ARN           the KMS key
  --context FILE      iamPolicies, grants and keyMetadata, as for policy review
  --suppress FILE     findings to live with, as for policy review
  --release FILE      release manifest of the image (image release)
  --model MANIFEST    manifest.json of a sealed model (repeatable)
  --at TIME           when all of it must hold; default: "document", the attestation's own time
  --root FILE         trust this simulation root (PEM or DER) instead of the AWS root
  --sign KEY          sign the index with this private key (PEM, mode 600): ECDSA P-256 or Ed25519
  -o, --out OUT.tar   the archive to create; an existing file is not replaced
  --json              print one JSON document: the checks

Example:
  strongroom evidence bundle --image strongroom.eif --deployment deployment.json --policy policy.json \\
    --attestation document.cbor --role arn:aws:iam::111122223333:role/EnclaveHost \\
    --release releases/strongroom-1.4.0.json --sign reviewer.key.pem -o strongroom-1.4.0.evidence.tar

Exit codes: 0 written; 1 a check failed, nothing is written; 2 usage or unreadable input; 3 cannot be decided with
what was supplied, nothing is written.
`,
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        image: { type: 'string' },
        pcrs: { type: 'string' },
        deployment: { type: 'string' },
        policy: { type: 'string' },
        attestation: { type: 'string' },
        role: { type: 'string' },
        key: { type: 'string' },
        context: { type: 'string' },
        suppress: { type: 'string' },
        release: { type: 'string' },
        model: { type: 'string', multiple: true, default: [] },
        at: { type: 'string' },
        root: { type: 'string' },
        sign: { type: 'string' },
        out: { type: 'string', short: 'o' },
        json: { type: 'boolean', default: false },
      },
    });
    if (positionals.length > 0) throw new CommandError('USAGE', 'evidence bundle takes options alone.');
    const need = (name: 'deployment' | 'policy' | 'attestation' | 'out'): string => {
      const value = values[name];
      if (value === undefined) throw new CommandError('USAGE', `evidence bundle needs --${name}.`);
      return value;
    };
    const out = need('out');
    const given = {
      deployment: need('deployment'),
      policy: need('policy'),
      attestation: need('attestation'),
    };
    if (values.role !== undefined) expectRole(values.role);
    const at = parseTime(values.at, 'document') ?? 'document';
    const anchor = values.root === undefined ? awsNitroAnchor() : await readAnchor(values.root);
    const signer = values.sign === undefined ? undefined : await readPrivateKey(values.sign);
    const attestation = await readAttestation(given.attestation);
    const parts = {
      image: await readImage(values, io),
      deployment: await part('deployment.json', given.deployment),
      policy: await part('policy.json', given.policy),
      attestation,
      context: await partIfGiven('context.json', values.context),
      suppressions: await partIfGiven('suppressions.json', values.suppress),
      release: await partIfGiven('release.json', values.release),
      modelManifests: await Promise.all(values.model.map((path) => part('models/any.json', path))),
      hostRoleArn: values.role,
      keyArn: values.key,
    };
    const reviewedAt = at === 'document' ? attestedAt(attestation) : at;
    const archive = makeBundle(parts, {
      made: new Date(),
      at: reviewedAt,
      toolVersion: toolVersion(),
      signer,
    });
    const verification = verifyBundle(archive, {
      anchors: [anchor],
      at,
      signer: signer && publicHalfOf(signer),
      image: undefined,
    });
    if (verification.error === undefined) await writeFile(out, archive, { flag: 'wx' });
    io.stdout.write(values.json ? `${JSON.stringify(bundleJson(verification))}\n` : bundleText(verification));
    io.stderr.write(
      verification.error === undefined ? `wrote ${out}, ${archive.length} bytes\n` : 'nothing was written\n',
    );
    return verification.error?.exitCode ?? 0;
  },
};

async function readImage(
  { image, pcrs }: { readonly image?: string | undefined; readonly pcrs?: string | undefined },
  io: CommandIo,
): Promise<Uint8Array> {
  if ((image === undefined) === (pcrs === undefined)) {
    throw new CommandError('USAGE', 'evidence bundle needs --image or --pcrs, and not both.');
  }
  if (pcrs !== undefined) return part('image.json', pcrs);
  const measured = await measureFile(image as string, io);
  return Buffer.from(`${JSON.stringify(imageAsJson(measured), undefined, 2)}\n`);
}

function part(member: string, path: string): Promise<Uint8Array> {
  return readPart(path, largestOf(member) as number);
}

async function partIfGiven(member: string, path: string | undefined): Promise<Uint8Array | undefined> {
  return path === undefined ? undefined : part(member, path);
}

function attestedAt(document: Uint8Array): Date {
  return new Date(parseAttestationDocument(document, {}).untrusted.timestampMs);
}

function toolVersion(): string {
  const path = new URL('../package.json', import.meta.url);
  return (JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version;
}
