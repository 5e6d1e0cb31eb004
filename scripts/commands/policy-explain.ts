import { parseArgs } from 'node:util';
import { type Explained, explainRequest } from '../../review/policy/explain.ts';
import { CONTEXT_MAX_BYTES, parseSupplied } from '../../review/policy/supplied.ts';
import { kmsAction } from '../../shared/policy/actions.ts';
import { nameInArn, parseKeyArn } from '../../shared/policy/arn.ts';
import type { PolicyRequest } from '../../shared/policy/model.ts';
import { POLICY_MAX_BYTES, parsePolicy } from '../../shared/policy/parse.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';
import { readSmallFile } from '../input-file.ts';
import { callerOf, conditionKeys, pairs, readAttestation, withTime } from '../policy/request-options.ts';

export const command: Command = {
  name: 'policy explain',
  summary: 'Say what a key policy answers to one request, and which statements decide it',
  help: `
Usage: strongroom policy explain POLICY.json --principal ARN [--action kms:Decrypt] [REQUEST OPTIONS]
                                 [--context FILE] [--expect allow|deny] [--json]

Answers one request as KMS would, by the engine that reviews and the simulated KMS use, and says of every statement
about the action whether it applies, with its line and the condition that decides it (docs/policy.md section 9).

The request:
  --principal ARN     role, user, session or root user that calls
  --session NAME      session of a role; default: session
  --principal-tag K=V tag of the principal (repeatable)
  --action NAME       default: kms:Decrypt
  --key ARN           the key; default: one in the account of the principal
  --attestation WHAT  none (default), debug, or a file with an attestation document
  --image FILE        attested by an enclave of this image, on an instance with the principal's role
  --pcrs FILE         attested with these registers: output of image measure --json, or {"PCR0": "..."}
  --deployment FILE   running this deployment document, which is PCR16
  --root FILE         trust the document of a simulation with this root
  --encryption-context K=V   (repeatable)
  --condition-key K=V        another condition key of the request, such as kms:ViaService (repeatable); its time
                             is now unless aws:CurrentTime is given

What else applies:
  --context FILE      iamPolicies by role name, and grants (docs/policy-review.md section 6)

  --expect ANSWER     allow or deny: exit with 1 if the answer is the other one
  --json              print one JSON document

Example:
  strongroom policy explain policy.json --principal arn:aws:iam::111122223333:role/EnclaveHost \\
    --image strongroom.eif --deployment deployment.json \\
    --encryption-context strongroom-model=iris --encryption-context strongroom-purpose=model-data-key

Exit codes: 0 answered, whatever the answer; 1 not what --expect says, or a document that KMS would refuse; 2 usage,
or a policy that cannot be read.
`,
  run: async (args, io) => {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        principal: { type: 'string' },
        session: { type: 'string' },
        'principal-tag': { type: 'string', multiple: true, default: [] },
        action: { type: 'string', default: 'kms:Decrypt' },
        key: { type: 'string' },
        attestation: { type: 'string' },
        image: { type: 'string' },
        pcrs: { type: 'string' },
        deployment: { type: 'string' },
        root: { type: 'string' },
        'encryption-context': { type: 'string', multiple: true, default: [] },
        'condition-key': { type: 'string', multiple: true, default: [] },
        context: { type: 'string' },
        expect: { type: 'string' },
        json: { type: 'boolean', default: false },
      },
    });
    const [path, ...others] = positionals;
    if (path === undefined || others.length > 0) throw usage('policy explain needs one policy.');
    if (values.principal === undefined) throw usage('policy explain needs --principal ARN.');
    const { expect } = values;
    if (expect !== undefined && expect !== 'allow' && expect !== 'deny') {
      throw usage(`--expect takes allow or deny, not ${JSON.stringify(expect)}.`);
    }
    const action = actionOf(values.action);
    const caller = callerOf(
      values.principal,
      values.session,
      new Map(pairs('principal-tag', values['principal-tag'])),
    );
    const supplied =
      values.context === undefined
        ? undefined
        : parseSupplied(await readSmallFile(values.context, CONTEXT_MAX_BYTES));
    const keyArn =
      values.key ??
      supplied?.keyMetadata?.arn ??
      `arn:aws:kms:us-east-1:${caller.accountId}:key/00000000-0000-0000-0000-000000000000`;
    if (parseKeyArn(keyArn) === undefined)
      throw usage(`--key takes the ARN of a key, not ${JSON.stringify(keyArn)}.`);
    const keyPolicy = parsePolicy(await readSmallFile(path, POLICY_MAX_BYTES), 'key');
    const { image, pcrs, deployment, root } = values;
    const attestation = await readAttestation(
      { attestation: values.attestation, image, pcrs, deployment, root, caller },
      io,
    );
    const asked = withTime(conditionKeys(values['condition-key']), new Date());
    const request: PolicyRequest = {
      principal: caller,
      action,
      keyArn,
      // KMS takes no call without TLS, and each has a time.
      context: new Map([['aws:SecureTransport', ['true']], ...asked, ...attestation.context]),
      encryptionContext: new Map(pairs('encryption-context', values['encryption-context'])),
    };
    const own = supplied?.iamPolicies;
    const explained = explainRequest(request, {
      keyPolicy,
      identityPolicies: (own?.get(nameInArn(caller.arn)) ?? own?.get(caller.arn) ?? []).map(
        ({ policy }) => policy,
      ),
      grants: supplied?.grants ?? [],
    });
    const notes = notesOf(
      supplied === undefined,
      values.key === undefined && supplied?.keyMetadata?.arn === undefined,
      keyArn,
    );
    io.stdout.write(
      values.json
        ? `${JSON.stringify(asJson(request, attestation.name, explained, notes))}\n`
        : asText(request, attestation.name, explained, notes),
    );
    const answer = explained.decision.allowed ? 'allow' : 'deny';
    return expect === undefined || expect === answer ? 0 : 1;
  },
};

/** An action that KMS does not have would be denied by every policy, and say nothing. */
function actionOf(name: string): string {
  const action = kmsAction(name.includes(':') ? name : `kms:${name}`);
  if (action === undefined) throw usage(`KMS has no action ${JSON.stringify(name)}.`);
  return `kms:${action.name}`;
}

function notesOf(noContext: boolean, noKey: boolean, keyArn: string): string[] {
  return [
    ...(noContext ? ['Without --context the caller has no IAM policies, and the key has no grants.'] : []),
    ...(noKey ? [`Without --key the key is ${keyArn}: in the account of the caller.`] : []),
    'Permissions boundaries, session policies, SCPs, RCPs and VPC endpoint policies are not seen; they can only narrow.',
  ];
}

function asText(
  request: PolicyRequest,
  attestation: string,
  explained: Explained,
  notes: readonly string[],
): string {
  const { decision, statements, absentKeys } = explained;
  const caller = request.principal.sessionArn ?? request.principal.arn;
  const how = { allow: 'ALLOWED', 'explicit-deny': 'DENIED', 'implicit-deny': 'DENIED' }[decision.reason];
  const lines = [
    `${how}: ${request.action} by ${caller}, attestation: ${attestation}.`,
    '',
    decision.allowed
      ? 'Because:'
      : decision.reason === 'explicit-deny'
        ? 'Because of a Deny:'
        : 'Because nothing allows it:',
    ...decision.explanation.map((line) => `  ${line}`),
  ];
  if (statements.length > 0) lines.push('', `Statements about ${request.action}:`);
  for (const { policy, statement, line, effect, applies, why } of statements) {
    lines.push(
      `  ${applies ? '*' : '-'} ${policy}, line ${line}: ${effect} ${JSON.stringify(statement)} ${applies ? 'applies' : 'does not apply'}`,
    );
    lines.push(`      ${why}`);
  }
  if (absentKeys.length > 0) {
    lines.push(
      '',
      'Asked for by these statements and not in the request:',
      ...absentKeys.map((key) => `  ${key}`),
    );
  }
  return `${[...lines, '', ...notes].map(plain).join('\n')}\n`;
}

function asJson(
  request: PolicyRequest,
  attestation: string,
  { decision, statements, absentKeys }: Explained,
  notes: readonly string[],
) {
  const { principal, action, keyArn, context, encryptionContext } = request;
  return {
    schema: { name: 'strongroom-policy-explain', version: 1 },
    answer: decision.allowed ? 'allow' : 'deny',
    reason: decision.reason,
    message: decision.message,
    explanation: decision.explanation,
    decidedBy: decision.decisive,
    statements,
    absentKeys,
    request: {
      principal: principal.arn,
      session: principal.sessionArn ?? null,
      action,
      keyArn,
      attestation,
      context: Object.fromEntries(context ?? []),
      encryptionContext: Object.fromEntries(encryptionContext ?? []),
    },
    notes,
  };
}

/** Text of a policy moves no cursor. */
function plain(line: string): string {
  return line.replaceAll(/[^\p{L}\p{N}\p{P}\p{S} ]/gu, '\uFFFD');
}

function usage(message: string): CommandError {
  return new CommandError('USAGE', message);
}
