import { type ErrorTable, StrongroomError } from '../../shared/errors.ts';

export const proxyErrors = {
  PROXY_PORT: {
    exit: 2,
    means: 'The proxy cannot listen on its port.',
    action: 'Choose another with --port, or end what listens there.',
  },
  PROXY_HOST: {
    exit: 1,
    means: 'A request names another host than the proxy.',
    action:
      'Call the proxy by the address that it prints; other names may lead here from a hostile web page.',
  },
  PROXY_CROSS_SITE: {
    exit: 1,
    means: 'A request comes from a web page of another site.',
    action: 'Call the proxy from a program; web pages do not get to use it.',
  },
  PROXY_PATH: {
    exit: 1,
    means: 'A request is none that the proxy passes on.',
    action: "Use the enclave's paths, such as /v1/models; what was verified is under / and /strongroom.json.",
  },
  PROXY_HTTP_VERSION: {
    exit: 1,
    means: 'A request is made in HTTP/1.0, in which the end of a stream cannot be told from a cut.',
    action: 'Use HTTP/1.1; in nginx: proxy_http_version 1.1.',
  },
  PROXY_BUSY: {
    exit: 3,
    means: 'The proxy has as many requests under way as it takes.',
    action: 'Try again when some have their answers.',
  },
} as const satisfies ErrorTable;

export type ProxyErrorCode = keyof typeof proxyErrors;

export class ProxyError extends StrongroomError<ProxyErrorCode> {
  constructor(code: ProxyErrorCode, message: string, cause?: unknown) {
    super(proxyErrors, code, message, cause);
  }
}
