import { once } from 'node:events';
import { parseArgs } from 'node:util';
import { strongroomErrorIn, VerifiedAgent } from '../../client/index.ts';
import { CLIENT_OPTIONS, CLIENT_OPTIONS_HELP, readClientOptions } from '../client-options.ts';
import type { Command, CommandIo } from '../command.ts';
import { CommandError } from '../errors.ts';
import { verifiedLine } from '../evidence-report.ts';
import { VerifyingProxy } from '../proxy/proxy.ts';
import { ProxyStatus } from '../proxy/status.ts';

const GRACE_MS = 5_000;

export const command: Command = {
  name: 'proxy',
  summary: 'A local verifying proxy: curl, Python and any OpenAI tool reach an enclave through it.',
  help: `
Usage: strongroom proxy URL --expect FILE [--port N] [--connections N] [--reverify SECONDS]
                        [--client-cert FILE --client-key FILE] [--json]

Listens on 127.0.0.1 in plain HTTP and passes requests on to the enclave at URL, over connections that were each
verified before a byte of a request was sent. Programs of this machine use it unchanged, with the base URL
http://127.0.0.1:PORT/v1. In a browser, http://127.0.0.1:PORT/ shows what was verified; /strongroom.json says it
to machines. If verification fails, a request is answered with 502 and the code, and nothing is sent.

  URL                  https://HOST:PORT of the enclave (through its parent)
  ${CLIENT_OPTIONS_HELP}
  --port N             the port on 127.0.0.1; default: a free one
  --connections N      to the enclave at once, 1 to 256, one request on each; more requests wait; default: 16
  --reverify SECONDS   how long a connection serves before the next one is verified anew; default: 3600
  --json               print one JSON document when it is ready: url, baseUrl, and what /strongroom.json says

Every program of this machine can use it, with the client certificate that it was given. Web pages cannot.
Ctrl-C ends it: requests under way have 5 seconds for their answers.

Example:
  strongroom proxy https://enclave.example.org:8443 --expect expectations.json --port 8480
  curl http://127.0.0.1:8480/v1/models

Exit codes: 0 ended by an interrupt; 1 the enclave was refused; 2 unusable input or port; 3 not reachable or busy.
`,
  run: async (args, io) => {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        ...CLIENT_OPTIONS,
        port: { type: 'string', default: '0' },
        connections: { type: 'string', default: '16' },
        reverify: { type: 'string', default: '3600' },
        json: { type: 'boolean', default: false },
      },
    });
    const [url, ...others] = positionals;
    if (url === undefined || others.length > 0) throw new CommandError('USAGE', 'Expected exactly one URL.');
    const port = wholeNumber('--port', values.port, 65_535);
    const connections = wholeNumber('--connections', values.connections, 256);
    const reverifyAfterMs = wholeNumber('--reverify', values.reverify, 86_400) * 1000;
    const { expectations, connection } = await readClientOptions(values);
    const origin = URL.parse(url)?.origin ?? url;
    const status = new ProxyStatus(origin, expectations, reverifyAfterMs, () => new Date());
    const agent = new VerifiedAgent(url, expectations, {
      ...connection,
      connections,
      reverifyAfterMs,
      onVerified: (evidence) => {
        status.verified(evidence);
      },
    });
    await serve(agent, status, { port, json: values.json }, io);
    return 0;
  },
};

interface Serving {
  readonly port: number;
  readonly json: boolean;
}

async function serve(
  agent: VerifiedAgent,
  status: ProxyStatus,
  { port, json }: Serving,
  io: CommandIo,
): Promise<void> {
  try {
    const evidence = await agent.verify({ signal: io.signal });
    const proxy = await VerifyingProxy.start({
      agent,
      status,
      port,
      onFailure: (error) => void io.stderr.write(`${failureLine(error)}\n`),
    });
    io.stderr.write(`${verifiedLine(evidence)}\n`);
    const baseUrl = `${proxy.url}/v1`;
    io.stdout.write(
      json
        ? `${JSON.stringify({ url: proxy.url, baseUrl, ...status.toJSON() })}\n`
        : `Serving ${status.enclave} at ${proxy.url}\nOpenAI base URL: ${baseUrl}\nCtrl-C ends it.\n`,
    );
    if (!io.signal.aborted) await once(io.signal, 'abort');
    await proxy.close(GRACE_MS);
  } catch (error) {
    if (!io.signal.aborted) throw error;
  } finally {
    await agent.destroy();
  }
}

function failureLine(error: unknown): string {
  const known = strongroomErrorIn(error);
  return known === undefined ? `request failed: ${String(error)}` : `${known.code}: ${known.message}`;
}

function wholeNumber(option: string, text: string, max: number): number {
  const value = /^\d{1,6}$/.test(text) ? Number(text) : Number.NaN;
  if (value <= max) return value;
  throw new CommandError('USAGE', `${option}: expected a whole number up to ${max}, found ${text}.`);
}
