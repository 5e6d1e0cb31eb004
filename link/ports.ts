/** Port numbers on the link (docs/link.md). Both ends import them, so they cannot disagree. */

/** On the parent: plain HTTP/1.1, CONNECT egress, deployment, models, credentials, telemetry. */
export const HOST_SERVICE_PORT = 7000;
/** On the enclave: plain HTTP/1.1 for liveness and drain. */
export const CONTROL_PORT = 7001;
/** On the enclave: TLS 1.3 that ends inside; the parent relays its bytes untouched. */
export const SERVICE_PORT = 7443;
