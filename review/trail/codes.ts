/**
 * What can be objected to in a trail (docs/trail.md section 3). Codes are stable; those that policy reviews use too
 * mean the same thing there: what a policy would allow is here what somebody did.
 */

/** Worst first. */
export const SEVERITIES = ['critical', 'high', 'medium', 'low', 'info'] as const;
export type Severity = (typeof SEVERITIES)[number];

export interface TrailRule {
  readonly severity: Severity;
  /** What happened, as a heading. */
  readonly title: string;
  readonly why: string;
  readonly remedy: string;
}

const SEE_POLICY =
  'Review the key policy and the grants (strongroom policy review) and close what allowed it.';
const ASK = 'Ask whoever did it. If nobody knows, treat it as an incident.';

export const TRAIL_RULES = {
  'unattested-plaintext': {
    severity: 'critical',
    title: 'Plaintext without attestation',
    why: 'KMS gave a plaintext or a shared secret to a caller that showed no attestation document.',
    remedy: `Treat what was decrypted as known to the caller. ${SEE_POLICY} Seal the models again under new data keys (strongroom reseal).`,
  },
  'debug-image': {
    severity: 'critical',
    title: 'Used by a debug enclave',
    why: 'The image digest is all zero: the enclave ran in debug mode, and its parent could read all of it.',
    remedy: `Treat what was decrypted as known to the host. ${SEE_POLICY}`,
  },
  'unknown-image': {
    severity: 'critical',
    title: 'Used by an image that nobody reviewed',
    why: 'The image digest is in none of the release manifests.',
    remedy: `Find out what that image is: image measure of the files in question. If it is a release, add its manifest; if not, ${SEE_POLICY.charAt(0).toLowerCase()}${SEE_POLICY.slice(1)}`,
  },
  'registers-differ': {
    severity: 'critical',
    title: 'Other registers than the release has',
    why: 'The image digest is that of a release, but another register that the image determines is not. One image has one set of registers.',
    remedy: 'Measure the image again and compare with its manifest; one of the two is wrong.',
  },
  'other-platform': {
    severity: 'high',
    title: 'Used by something that is no enclave',
    why: 'The attestation document has no image digest of an enclave, for example one of a NitroTPM.',
    remedy: SEE_POLICY,
  },
  'unattested-datakey': {
    severity: 'high',
    title: 'Data keys in the clear',
    why: 'KMS gave a data key in the clear to a caller that showed no attestation document. What is sealed under it later is open to that caller.',
    remedy: SEE_POLICY,
  },
  'withdrawn-image': {
    severity: 'high',
    title: 'Used by a withdrawn release',
    why: 'The release was withdrawn before this use.',
    remedy: 'Take its statement out of the key policy, and stop the hosts that still run it.',
  },
  'wrong-role': {
    severity: 'high',
    title: 'Used from another role',
    why: 'The caller, or the role that PCR3 shows, is not the role of the hosts.',
    remedy: `Find out whose instance it was. ${SEE_POLICY}`,
  },
  'external-account': {
    severity: 'critical',
    title: 'Used by another account',
    why: 'KMS answered a caller of another account than the key’s.',
    remedy: SEE_POLICY,
  },
  'unexpected-model': {
    severity: 'medium',
    title: 'A model that no reviewed deployment names',
    why: 'The encryption context names a model that none of the deployments in the release’s manifest names.',
    remedy:
      'Review the deployment that ran, and add it to the manifest; or take the model out of the key policy.',
  },
  'reencrypt-escape': {
    severity: 'critical',
    title: 'Moved under another key',
    why: 'A ciphertext of this key was re-encrypted under another key, whose policy decides about it now.',
    remedy: `Treat it as known to whoever may use the other key. ${SEE_POLICY}`,
  },
  'grant-escape': {
    severity: 'high',
    title: 'A grant was made',
    why: 'Grants know no attestation: unless a Deny of the policy covers them, the grantee needs no enclave.',
    remedy: 'Look at the live grants (aws kms list-grants) and revoke what nobody can explain.',
  },
  'replica-escape': {
    severity: 'critical',
    title: 'Replicated into another region',
    why: 'A replica has the same key material and a policy of its own.',
    remedy: 'Review the policy of the replica, and its trail.',
  },
  'imported-material': {
    severity: 'high',
    title: 'Key material was imported or deleted',
    why: 'Imported key material is known outside of KMS.',
    remedy: ASK,
  },
  'policy-admin': {
    severity: 'high',
    title: 'The key policy was changed',
    why: 'Whoever changes the policy can let themselves in, if only for a minute.',
    remedy:
      'Review the policy as it is now, and compare it with the last reviewed one (strongroom policy diff). Every change should have a reviewed reason.',
  },
  availability: {
    severity: 'medium',
    title: 'The key was disabled or its deletion scheduled',
    why: 'Enclaves cannot open the models while the key is disabled, and never again once it is deleted.',
    remedy: 'If it was not meant: aws kms cancel-key-deletion, aws kms enable-key.',
  },
  'integrity-encrypt': {
    severity: 'medium',
    title: 'Encrypted by somebody who is no sealer',
    why: 'Whoever can encrypt can make wraps that the key opens, and so put a model of theirs in place of yours.',
    remedy: SEE_POLICY,
  },
  'unknown-operation': {
    severity: 'medium',
    title: 'An operation that this version does not know',
    why: 'It is not read-only, and nothing is known here about what it does.',
    remedy: 'Look it up in the KMS API reference; a newer version may know it.',
  },
  'reviewed-image-refused': {
    severity: 'medium',
    title: 'A reviewed image was refused',
    why: 'An enclave of a known release asked and got nothing: the policy does not fit the release, the deployment, the role or the model.',
    remedy: 'Ask strongroom policy explain with the same request; compare PCR16, which trails do not show.',
  },
  'refused-attempt': {
    severity: 'medium',
    title: 'Refused attempts',
    why: 'Somebody asked for plaintext or for control of the key and was refused. The policy held; that they tried is worth a question.',
    remedy: ASK,
  },
  'alias-changed': {
    severity: 'low',
    title: 'An alias was changed',
    why: 'Whoever names the key by its alias uses another key from then on.',
    remedy: 'Name keys by ARN, as Strongroom does.',
  },
  'reencrypt-context': {
    severity: 'info',
    title: 'Wraps renewed under the same key',
    why: 'Re-encryption on the same key: no plaintext leaves KMS. It can change the encryption context.',
    remedy: 'None, if it was a rewrap (strongroom rewrap).',
  },
  'key-changed': {
    severity: 'info',
    title: 'The key itself was changed',
    why: 'Rotation, description, tags, state or grants taken back: nobody gets plaintext by it.',
    remedy: 'None, if it was meant.',
  },
  'failed-call': {
    severity: 'info',
    title: 'Calls that failed',
    why: 'Not for want of permission: throttled, malformed, expired credentials, a fault of the service.',
    remedy: 'None for the key’s secrecy.',
  },
} as const satisfies Readonly<Record<string, TrailRule>>;

export type TrailCode = keyof typeof TRAIL_RULES;
