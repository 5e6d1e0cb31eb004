/**
 * Every code that a finding can have (docs/policy-review.md section 4). Codes are stable: suppressions, dashboards and
 * rule ids of SARIF depend on them.
 */

export interface FindingRule {
  /** Group of checks, `A` to `J` (docs/policy-review.md section 5). */
  readonly group: string;
  readonly title: string;
  /** Checks of Prowler that ask about the same thing, without their common prefix `kms_key_enclave_attestation_`. */
  readonly prowler: readonly string[];
}

export const PROWLER_PREFIX = 'kms_key_enclave_attestation_';

export const FINDING_RULES = {
  'malformed-policy': {
    group: 'A',
    title: 'AWS refuses the document, or leaves its meaning open',
    prowler: [],
  },
  'duplicate-key': { group: 'A', title: 'A JSON member is repeated', prowler: [] },
  'old-version': { group: 'A', title: 'Version is missing or 2008-10-17', prowler: [] },
  'unknown-condition-key': { group: 'A', title: 'A condition key that KMS does not know', prowler: [] },
  'operator-type': { group: 'A', title: 'An operator of the wrong type for its key', prowler: [] },
  'repeated-sid': { group: 'A', title: 'Two statements have the same Sid', prowler: [] },
  'resource-form': { group: 'A', title: 'A Resource other than "*"', prowler: [] },
  'unattested-plaintext': {
    group: 'B',
    title: 'An Allow without an effective attestation condition yields plaintext or a shared secret',
    prowler: ['not_enforced', 'bypassable_path'],
  },
  'public-principal': { group: 'B', title: 'Principal "*", or every AWS account', prowler: [] },
  'via-service-path': {
    group: 'B',
    title: 'kms:ViaService opens a path through an AWS service',
    prowler: ['not_enforced', 'bypassable_path'],
  },
  'root-user': {
    group: 'B',
    title: 'The account root user gets plaintext directly',
    prowler: ['not_enforced', 'bypassable_path'],
  },
  'external-account': { group: 'B', title: 'A principal of another account is allowed', prowler: [] },
  'ineffective-condition': { group: 'B', title: 'A condition that never narrows anything', prowler: [] },
  'set-operator-single-value': {
    group: 'B',
    title: 'ForAllValues or ForAnyValue on a key with one value',
    prowler: [],
  },
  notprincipal: { group: 'B', title: 'NotPrincipal is used', prowler: [] },
  'notaction-gap': {
    group: 'B',
    title: 'NotAction lets escape actions through',
    prowler: ['bypassable_path'],
  },
  notresource: { group: 'B', title: 'NotResource is used', prowler: [] },
  'any-image': {
    group: 'C',
    title: 'Attestation is required, but no image is pinned',
    prowler: ['pcr_mismatch'],
  },
  'partial-image-pin': {
    group: 'C',
    title: 'Only some of the image is pinned (PCR1 or PCR2 alone)',
    prowler: ['pcr_mismatch'],
  },
  'constant-pcr-pin': {
    group: 'C',
    title: 'Only a register that is the same for all enclaves is pinned',
    prowler: ['pcr_mismatch'],
  },
  'user-pcr-pin': {
    group: 'C',
    title: 'Only a register that the enclave extends itself is pinned',
    prowler: ['pcr_mismatch'],
  },
  'signer-only': {
    group: 'C',
    title: 'Only the signing certificate (PCR8) is pinned',
    prowler: ['pcr_mismatch'],
  },
  'debug-image': {
    group: 'C',
    title: 'All-zero measurements of a debug enclave pass',
    prowler: ['pcr_mismatch', 'debug_attestation_detected'],
  },
  'debug-unproven': { group: 'C', title: 'Debug mode is not provably excluded', prowler: [] },
  'weak-pin': {
    group: 'C',
    title: 'A wildcard or short prefix accepts several digests',
    prowler: ['pcr_mismatch'],
  },
  'variable-pin': { group: 'C', title: 'The pinned value is a policy variable', prowler: ['pcr_mismatch'] },
  'extra-image': {
    group: 'C',
    title: 'Another image than the reviewed one is accepted',
    prowler: ['pcr_mismatch', 'unknown_image'],
  },
  'tuple-mixing': {
    group: 'C',
    title: 'Lists per register accept registers of different images together',
    prowler: ['pcr_mismatch'],
  },
  'other-platform': {
    group: 'C',
    title: 'NitroTPM or another attestation platform is accepted',
    prowler: [],
  },
  'deployment-not-pinned': {
    group: 'C',
    title: 'The deployment (PCR16) is not pinned together with the image',
    prowler: [],
  },
  'deny-conjunction': {
    group: 'D',
    title: 'Several conditions in one Deny must all hold before it fires',
    prowler: ['bypassable_path'],
  },
  'deny-coverage': {
    group: 'D',
    title: 'A Deny leaves out actions that yield plaintext',
    prowler: ['bypassable_path'],
  },
  'deny-set-operator': {
    group: 'D',
    title: 'A set operator makes a Deny silent on a missing key',
    prowler: ['bypassable_path'],
  },
  'reencrypt-escape': {
    group: 'E',
    title: 'ReEncryptFrom is reachable: the ciphertext moves under a key the caller controls',
    prowler: [],
  },
  'reencrypt-context': {
    group: 'E',
    title: 'ReEncrypt on the same key: changes the encryption context only',
    prowler: [],
  },
  'grant-escape': {
    group: 'E',
    title: 'CreateGrant is reachable without a limit on operations',
    prowler: [],
  },
  'aws-service-grant': { group: 'E', title: 'CreateGrant limited to AWS services', prowler: [] },
  'policy-admin': { group: 'E', title: 'A principal can change the key policy', prowler: [] },
  'self-admin': { group: 'E', title: "The enclave's host itself can change the key policy", prowler: [] },
  'replica-escape': { group: 'E', title: 'A replica of a multi-Region key has its own policy', prowler: [] },
  'imported-material': {
    group: 'E',
    title: 'The key material exists, or can be placed, outside KMS',
    prowler: [],
  },
  'account-delegation': {
    group: 'F',
    title: 'The account is allowed unattested use: IAM decides',
    prowler: ['not_enforced', 'bypassable_path'],
  },
  'attestation-in-iam-only': {
    group: 'F',
    title: 'The attestation condition is in an IAM policy, not in the key policy',
    prowler: ['not_enforced', 'bypassable_path'],
  },
  'grant-existing': { group: 'F', title: 'A live grant gives plaintext without attestation', prowler: [] },
  'grant-covered': { group: 'F', title: 'Grants are held back by a Deny', prowler: [] },
  'role-chain': {
    group: 'F',
    title: 'A trust policy lets somebody become a principal that opens the key',
    prowler: [],
  },
  'bad-measurement-value': {
    group: 'G',
    title: 'A value that no register can have',
    prowler: ['pcr_mismatch'],
  },
  'placeholder-value': {
    group: 'G',
    title: "A value that is a template's placeholder",
    prowler: ['pcr_mismatch'],
  },
  'literal-wildcard': {
    group: 'G',
    title: 'A wildcard under an operator that does not expand it',
    prowler: ['pcr_mismatch'],
  },
  'dead-statement': { group: 'G', title: 'A statement that can never apply', prowler: [] },
  'dead-action': {
    group: 'G',
    title: 'An action that can never satisfy the attestation condition',
    prowler: [],
  },
  'unsupported-action-attested': {
    group: 'G',
    title: 'An attestation condition on actions without a Recipient',
    prowler: [],
  },
  'no-effect-action': {
    group: 'G',
    title: 'An action without a key, which key policies do not govern',
    prowler: [],
  },
  'principalarn-form': {
    group: 'G',
    title: 'aws:PrincipalArn compared with a form that it never has',
    prowler: [],
  },
  'session-principal': { group: 'G', title: 'A principal that is one role session', prowler: [] },
  'deleted-principal': { group: 'G', title: 'A principal that was deleted', prowler: [] },
  'reviewed-image-excluded': {
    group: 'G',
    title: 'The reviewed image is refused',
    prowler: ['pcr_mismatch'],
  },
  lockout: { group: 'G', title: 'Nobody can administer the key', prowler: [] },
  'unattested-datakey': {
    group: 'H',
    title: 'Data keys are given out in clear without attestation',
    prowler: ['not_enforced', 'bypassable_path'],
  },
  'integrity-encrypt': {
    group: 'H',
    title: 'Somebody outside the enclave can make valid ciphertexts',
    prowler: [],
  },
  availability: { group: 'H', title: 'Somebody can disable, delete or redirect the key', prowler: [] },
  'no-deny-backstop': { group: 'I', title: 'Attestation is only in Allow statements', prowler: [] },
  'no-host-binding': {
    group: 'I',
    title: 'Neither PCR3 nor PCR4 is pinned',
    prowler: ['no_deployment_binding'],
  },
  'rotation-off': { group: 'I', title: 'The key material is never rotated', prowler: [] },
  'not-generated': { group: 'I', title: 'Not the policy that is generated for these values', prowler: [] },
} as const satisfies Readonly<Record<string, FindingRule>>;

export type FindingCode = keyof typeof FINDING_RULES;
