/** The credentials that the enclave signs its requests to KMS with: from a file, or of the instance's role. */
import { credentialsFromFile } from '../../parent/credentials/file.ts';
import { credentialsFromInstanceRole } from '../../parent/credentials/instance-role.ts';
import { type Check, type CheckGroup, messageOf, ok, problem, type Result, warning } from './check.ts';
import { actionOf } from './configuration.ts';
import type { World } from './world.ts';

const TIMEOUT_MS = 3_000;
const CREDENTIALS_WHY = 'Without valid credentials KMS answers nobody, whatever the attestation says.';

export const credentialsGroup: CheckGroup = {
  title: 'Credentials',
  checks: (world, { config }): readonly Check[] =>
    config?.credentials.kind === 'file' ? fileChecks(world, config.credentials.path) : roleChecks(world),
};

function fileChecks(world: World, path: string): readonly Check[] {
  return [
    {
      id: 'credentials.file',
      why: CREDENTIALS_WHY,
      run: async () => {
        try {
          const { expiration } = await credentialsFromFile(path).provide();
          return judgeExpiry(world, expiration, 'Have whoever rotates the file write a new one.');
        } catch (error) {
          return problem(messageOf(error), actionOf(error, 'Check the file.'));
        }
      },
    },
  ];
}

function roleChecks(world: World): readonly Check[] {
  let token = '';
  return [
    {
      id: 'imds.answers',
      why: 'The parent takes its credentials from the instance metadata service, in version 2 alone.',
      needs: ['host.ec2'],
      run: async () => {
        const answer = await call(world, 'PUT', '/latest/api/token', {
          'x-aws-ec2-metadata-token-ttl-seconds': '60',
        });
        if (answer.kind === 'answer' && answer.status === 200) token = answer.text;
        return judgeToken(answer);
      },
    },
    {
      id: 'imds.version',
      why: 'Version 1 answers anything on this host that can be tricked into sending one request.',
      needs: ['imds.answers'],
      run: async () => judgeVersion(await call(world, 'GET', '/latest/meta-data/', {})),
    },
    {
      id: 'imds.role',
      why: 'The role is what the key policy lets ask for the key.',
      needs: ['imds.answers'],
      run: async () => {
        const path = '/latest/meta-data/iam/security-credentials/';
        return judgeRole(await call(world, 'GET', path, { 'x-aws-ec2-metadata-token': token }));
      },
    },
    {
      id: 'imds.credentials',
      why: CREDENTIALS_WHY,
      needs: ['imds.role'],
      run: async () => {
        try {
          const provider = credentialsFromInstanceRole({ endpoint: world.imdsEndpoint });
          const { expiration } = await provider.provide();
          return judgeExpiry(
            world,
            expiration,
            'Check the role’s trust policy (ec2.amazonaws.com), and the clock.',
          );
        } catch (error) {
          return problem(
            messageOf(error),
            'Check the role’s trust policy (ec2.amazonaws.com), and the clock.',
          );
        }
      },
    },
  ];
}

type Answer =
  | { readonly kind: 'answer'; readonly status: number; readonly text: string }
  | { readonly kind: 'silence' }
  | { readonly kind: 'failure'; readonly code: string };

/** More than the name of a role or a token; what comes behind it is not read. */
const ANSWER_MAX_BYTES = 2_048;

/** What came back, or its beginning. */
async function call(
  world: World,
  method: 'GET' | 'PUT',
  path: string,
  headers: Readonly<Record<string, string>>,
): Promise<Answer> {
  try {
    const response = await fetch(world.imdsEndpoint + path, {
      method,
      headers,
      redirect: 'error',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const chunks: Uint8Array[] = [];
    let sizeBytes = 0;
    for await (const chunk of response.body ?? []) {
      chunks.push(chunk);
      sizeBytes += chunk.length;
      if (sizeBytes > ANSWER_MAX_BYTES) break;
    }
    const text = Buffer.concat(chunks).subarray(0, ANSWER_MAX_BYTES).toString('utf8');
    return { kind: 'answer', status: response.status, text };
  } catch (error) {
    if (error instanceof Error && error.name === 'TimeoutError') return { kind: 'silence' };
    const cause = error instanceof Error ? error.cause : undefined;
    return {
      kind: 'failure',
      code: cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown',
    };
  }
}

const ENABLE =
  'aws ec2 modify-instance-metadata-options --instance-id ID --http-endpoint enabled --http-tokens required';

/** AWS EC2 User Guide, "Configure the Instance Metadata Service options": the answer to PUT travels so many hops. */
function judgeToken(answer: Answer): Result {
  if (answer.kind === 'answer') {
    if (answer.status === 200) return ok('version 2 gives tokens');
    if (answer.status === 403) return problem('The metadata service is turned off.', ENABLE);
    return problem(`The metadata service answers ${answer.status} to a request for a token.`, ENABLE);
  }
  if (answer.kind === 'silence') {
    return problem(
      'The metadata service does not answer.',
      'In a container the answer to PUT dies at the first hop: run the parent on the host, or add --http-put-response-hop-limit 2 to aws ec2 modify-instance-metadata-options. Otherwise look for a firewall rule for 169.254.169.254.',
    );
  }
  return problem(
    `The metadata service cannot be reached: ${answer.code}.`,
    'Check that a route leads to 169.254.169.254 and that no firewall rule keeps this user from it.',
  );
}

function judgeVersion(answer: Answer): Result {
  if (answer.kind === 'answer' && answer.status === 401) return ok('version 1 is off');
  if (answer.kind === 'answer' && answer.status === 200) {
    return warning('Version 1 of the metadata service is on.', ENABLE);
  }
  return ok('version 1 does not answer');
}

function judgeRole(answer: Answer): Result {
  const name = answer.kind === 'answer' && answer.status === 200 ? answer.text.trim() : '';
  if (/^[\w+=,.@-]{1,64}$/.test(name)) return ok(`role ${name}`);
  return problem(
    'The instance has no role.',
    'aws ec2 associate-iam-instance-profile --instance-id ID --iam-instance-profile Name=PROFILE; its role’s ARN is what PCR3 measures.',
  );
}

/** AWS makes new credentials available at least five minutes before the old ones expire (EC2 User Guide). */
const SHORT_MINUTES = 5;

function judgeExpiry(world: World, expiration: Date, action: string): Result {
  const minutes = Math.floor((expiration.getTime() - world.now()) / 60_000);
  if (minutes < 0) return problem(`The credentials expired at ${expiration.toISOString()}.`, action);
  const found = `they expire in ${minutes} minutes`;
  return minutes < SHORT_MINUTES ? warning(`${found}.`, action) : ok(found);
}
