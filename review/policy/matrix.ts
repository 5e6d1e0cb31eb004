/** Who gets what with which evidence, as a table: the picture of a policy. */
import { isAttestable } from '../../shared/policy/actions.ts';
import type { Decision } from '../../shared/policy/model.ts';
import type { Analysis } from './analysis.ts';
import { decidedBy } from './findings/witness.ts';
import type { Matrix, MatrixCell } from './report.ts';
import type { Asker } from './requests/ask.ts';
import type { Attestation } from './requests/attestations.ts';
import type { Caller } from './requests/callers.ts';

const ACTIONS = [
  'kms:Decrypt',
  'kms:GenerateDataKey',
  'kms:ReEncryptFrom',
  'kms:CreateGrant',
  'kms:PutKeyPolicy',
  'kms:Encrypt',
];
const CALLERS_MAX = 12;
const ATTESTATIONS_MAX = 10;

/** A cell is the best that the caller can make of it: some request of this kind is allowed, or none. */
export function matrixOf(analysis: Analysis): Matrix {
  const { asker, primaryAction } = analysis;
  const actions =
    primaryAction === undefined || ACTIONS.includes(primaryAction)
      ? ACTIONS
      : [primaryAction, ...ACTIONS.slice(1)];
  const callers = rowsOf(analysis);
  const attestations = columnsOf(analysis);
  const cells: MatrixCell[] = [];
  for (const caller of callers) {
    // A document makes no difference to a call that cannot carry one.
    const answers = new Map(actions.map((action) => [action, answerOf(asker, caller, action)]));
    for (const attestation of [undefined, ...attestations]) {
      for (const action of actions) {
        const decision =
          attestation !== undefined && isAttestable(action)
            ? answerOf(asker, caller, action, attestation)
            : answers.get(action);
        if (decision === undefined) continue;
        cells.push({
          principal: caller.name,
          attestation: attestation?.name ?? 'none',
          action,
          answer: decision.allowed ? 'allow' : 'deny',
          because: decision.reason,
          decidedBy: decidedBy(decision),
        });
      }
    }
  }
  return {
    principals: callers.map(({ name }) => name),
    attestations: ['none', ...attestations.map(({ name }) => name)],
    actions,
    cells,
  };
}

function answerOf(asker: Asker, caller: Caller, action: string, attestation?: Attestation): Decision {
  const question = {
    caller,
    action,
    ...(attestation === undefined ? {} : { attestation }),
    ...(action === 'kms:ReEncryptFrom' ? { fixed: { 'kms:reencryptonsamekey': [['false']] } } : {}),
    ...(action === 'kms:CreateGrant'
      ? { fixed: { 'kms:grantoperations': [['Decrypt']], 'kms:grantisforawsresource': [['false']] } }
      : {}),
  };
  return (asker.find(question) ?? asker.answer(question)).decision;
}

/** Those that the documents name, then those that could exist; not every one of a long list. */
function rowsOf({ callers }: Analysis): Caller[] {
  const weight = ({ isHost, isNamed, isStranger }: Caller) => (isHost ? 0 : isNamed ? 1 : isStranger ? 3 : 2);
  return callers.toSorted((a, b) => weight(a) - weight(b)).slice(0, CALLERS_MAX);
}

function columnsOf({ attestations }: Analysis): Attestation[] {
  const order: readonly Attestation['kind'][] = [
    'reviewed',
    'any-image',
    'debug',
    'same-signer',
    'named-image',
    'other-platform',
    'same-kernel',
    'same-application',
    'pattern-image',
    'debug-populated',
    'reviewed-elsewhere',
  ];
  return attestations
    .toSorted((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind))
    .slice(0, ATTESTATIONS_MAX);
}
