/** What a person sees who opens the proxy in a browser: what is on the other end, and how that is known. */
import type { EnclaveEvidence } from '../../client/index.ts';
import { type Content, type Html, html } from '../../review/html/html.ts';
import { htmlPage } from '../../review/html/page.ts';
import {
  badge,
  banner,
  type CheckLine,
  checkList,
  code,
  facts,
  listing,
  section,
  table,
} from '../../review/html/parts.ts';
import { DEPLOYMENT_PCR } from '../../shared/pcr.ts';
import type { Failure, ProxyStatus, Verification } from './status.ts';

/** `url` is that of the proxy. */
export function statusPage(status: ProxyStatus, url: string): string {
  const { last, failure } = status;
  return htmlPage({
    title: `Strongroom proxy: ${headline(status)}`,
    body: [
      html`<div class="masthead"><span>Strongroom verifying proxy</span><span>${status.enclave}</span></div>`,
      verdict(status),
      failure !== undefined && failureCard(failure),
      last !== undefined && [
        measurements(status, last.evidence),
        models(last.evidence),
        checks(status, last),
        details(last.evidence),
      ],
      usage(url, last?.evidence),
      html`<footer>Started ${timeText(status.startedAt)}; ${status.verifications} connections verified, ${status.requests} requests passed on. The same as JSON: <code>${url}/strongroom.json</code>. This page renews itself.</footer>`,
    ],
  });
}

function headline({ last, failure }: ProxyStatus): string {
  if (failure !== undefined) return 'the latest connection was refused';
  return last === undefined ? 'nothing verified yet' : 'verified';
}

function verdict({ last, failure, reverifyAfterMs, expected }: ProxyStatus): Html {
  if (failure !== undefined || last === undefined) {
    return banner({
      tone: 'bad',
      kicker: badge('bad', 'not verified', true),
      sentence: 'The latest connection was not verified, and nothing was sent over it.',
      more:
        last !== undefined &&
        html`What follows is what was verified before, at ${timeText(last.at)}. Connections of that time carry requests for at most ${spanText(reverifyAfterMs)}.`,
    });
  }
  const more = html`Verified at ${timeText(last.at)}. Each connection is verified before a request is sent, and again after ${spanText(reverifyAfterMs)}.`;
  if (last.evidence.trust === 'simulation') {
    return banner({
      tone: 'caution',
      kicker: [badge('caution', 'simulation', true), badge('plain', 'verified')],
      sentence: 'A simulated enclave, as expected. It proves nothing beyond this simulation.',
      more,
    });
  }
  const open = notCompared(expected);
  if (open.length > 0) {
    return banner({
      tone: 'caution',
      kicker: [badge('caution', 'partly verified', true), badge('plain', 'AWS Nitro')],
      sentence: `An AWS Nitro enclave. Its ${open.join(' and its ')} could be any: your expectations do not say.`,
      more,
    });
  }
  return banner({
    tone: 'good',
    kicker: [badge('good', 'verified', true), badge('plain', 'AWS Nitro')],
    sentence: 'The other end is the AWS Nitro enclave that you expect.',
    more,
  });
}

function notCompared({ pcrs }: ProxyStatus['expected']): readonly string[] {
  return [...(pcrs[0] === 'any' ? ['image'] : []), ...(pcrs[DEPLOYMENT_PCR] === 'any' ? ['deployment'] : [])];
}

function failureCard({ at, code: failureCode, message, action }: Failure): Html {
  return html`<div class="card"><div class="card-head">${badge('bad', failureCode)}<span class="soft small">${timeText(at)}</span></div><p>${message}</p><p>${action}</p></div>`;
}

function measurements({ expected, failure }: ProxyStatus, { pcrs, moduleId, trust }: EnclaveEvidence): Html {
  const shown = (register: 0 | typeof DEPLOYMENT_PCR): Content => [
    code(pcrs[register] ?? 'none'),
    ' ',
    expected.pcrs[register] === 'any' ? badge('caution', 'any: not compared') : badge('good', 'as expected'),
  ];
  return section(
    {
      title: failure === undefined ? 'What runs there' : 'What was verified before',
      intro:
        'Compare these with what your reviewer published; they name the image and its deployment exactly.',
    },
    facts([
      ['Image (PCR0)', shown(0)],
      ['Deployment (PCR16)', shown(DEPLOYMENT_PCR)],
      ['Trust', trust === 'aws-nitro' ? "AWS's root for Nitro enclaves" : 'the root of one simulation'],
      ['Enclave', code(moduleId)],
    ]),
  );
}

function models({ models: loaded }: EnclaveEvidence): Html {
  const rows = loaded.map(({ name, version, contentId }) => [
    html`<strong>${name}</strong>`,
    version,
    html`<code>${contentId}</code>`,
  ]);
  return section(
    { title: 'Models', intro: 'Loaded on the connection that was verified last.' },
    table('Models', ['Model', 'Version', 'Content id'], rows),
  );
}

function checks({ expected }: ProxyStatus, { evidence: { timestamp, trust } }: Verification): Html {
  const root = trust === 'aws-nitro' ? "AWS's" : "the simulation's";
  const wanted = expected.models?.map(({ name }) => name).join(', ');
  const passed = (what: string): CheckLine => ({ outcome: 'passed', what });
  const compared = (register: 0 | typeof DEPLOYMENT_PCR, what: string): CheckLine =>
    expected.pcrs[register] === 'any'
      ? { outcome: 'not-asked', what, detail: 'The expectations say "any".' }
      : passed(what);
  return section(
    { title: 'How this is known' },
    checkList([
      passed(`The document is signed by a security module whose certificates lead to ${root} root.`),
      passed(`It was made for this very TLS connection, at ${timeText(timestamp)}.`),
      passed('It is no debug image.'),
      compared(0, 'The image is one that you expect.'),
      compared(DEPLOYMENT_PCR, 'The deployment is one that you expect.'),
      wanted === undefined
        ? { outcome: 'not-asked', what: 'Which models are loaded.', detail: 'The expectations name none.' }
        : passed(`The expected models are loaded: ${wanted}.`),
    ]),
  );
}

function details({ pcrs, deploymentSha384, certificateSpkiSha256, models: loaded }: EnclaveEvidence): Html {
  const measured = Object.entries(pcrs).filter(([, value]) => !/^0*$/.test(value));
  return html`<section><details><summary>All registers and digests</summary>${facts([
    ...measured.map(([index, value]): [string, Content] => [`PCR${index}`, code(value)]),
    ['Deployment (SHA-384)', code(deploymentSha384)],
    ['TLS key (SHA-256)', code(certificateSpkiSha256)],
    ...loaded.map(({ name, manifestSha256 }): [string, Content] => [
      `Manifest of ${name} (SHA-256)`,
      code(manifestSha256 ?? 'none'),
    ]),
  ])}</details></section>`;
}

function usage(url: string, evidence: EnclaveEvidence | undefined): Html {
  const model = evidence?.models[0]?.name ?? 'MODEL';
  const lines = [
    `export OPENAI_BASE_URL=${url}/v1 OPENAI_API_KEY=unused`,
    `curl ${url}/v1/models`,
    `curl ${url}/v1/chat/completions -H 'content-type: application/json' \\`,
    `  -d '{"model": "${model}", "messages": [{"role": "user", "content": "Hello"}]}'`,
  ];
  return section(
    {
      title: 'Use it',
      intro: 'Any program of this machine that speaks to OpenAI or to an Open Inference Protocol server.',
    },
    listing(
      lines.map((text) => ({ text })),
      'Commands',
    ),
  );
}

function timeText(time: Date): string {
  return `${time.toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}

function spanText(ms: number): string {
  const minutes = ms / 60_000;
  return minutes >= 1 ? `${Math.round(minutes)} minutes` : `${ms / 1000} seconds`;
}
