/**
 * What the parent's log may say (docs/monitoring.md section 3): every event with its level and its fields.
 * The log holds nothing else, so that no credentials, bytes of a connection or stack can reach it by mistake.
 */
export type LogLevel = 'info' | 'warn' | 'error';

export interface LoggedEvent {
  readonly level: LogLevel;
  readonly fields: readonly string[];
}

export const LOG_EVENTS: Readonly<Record<string, LoggedEvent>> = {
  ready: { level: 'info', fields: ['address', 'port'] },
  'admin-ready': { level: 'info', fields: ['address', 'port'] },
  reloaded: { level: 'info', fields: ['destinations'] },
  'reload-refused': { level: 'error', fields: ['code', 'message'] },
  draining: { level: 'info', fields: ['timeoutMs'] },
  stopped: { level: 'info', fields: ['graceful', 'counters'] },
  'log-dropped': { level: 'warn', fields: ['count'] },

  'ingress-limited': { level: 'warn', fields: ['maxConnections', 'descriptorsFor'] },
  'ingress-refused': { level: 'warn', fields: ['reason', 'count'] },
  'egress-refused': { level: 'warn', fields: ['destination', 'reason', 'count'] },
  'egress-closed': { level: 'info', fields: ['destination', 'end', 'up', 'down'] },
  'host-request-failed': { level: 'error', fields: ['path', 'error'] },
  'models-failed': { level: 'error', fields: ['model', 'file', 'error', 'reason'] },

  'enclave-sizing': { level: 'warn', fields: ['message'] },
  heartbeat: { level: 'info', fields: ['outcome'] },
  'enclave-state': { level: 'info', fields: ['state'] },
  'enclave-leftover': { level: 'warn', fields: ['id', 'cid'] },
  'enclave-started': { level: 'info', fields: ['id', 'cid', 'cpuCount', 'memoryMib'] },
  'enclave-serving': { level: 'info', fields: ['bootMs'] },
  'enclave-start-failed': { level: 'error', fields: ['reason', 'code', 'message'] },
  'enclave-lost': { level: 'error', fields: ['reason', 'servedMs'] },
  'enclave-restarting': { level: 'warn', fields: ['failures', 'delayMs'] },
  'enclave-look-failed': { level: 'warn', fields: ['code', 'message'] },
  'enclave-terminate-failed': { level: 'error', fields: ['code', 'message'] },

  'tls-files-reloaded': { level: 'info', fields: ['name'] },
  'tls-files-refused': { level: 'error', fields: ['name', 'error'] },
  'certificate-expires': { level: 'warn', fields: ['name', 'days', 'hours', 'notAfter'] },
  'certificate-expired': { level: 'error', fields: ['name', 'days', 'hours', 'notAfter'] },

  'deny-list-expires': { level: 'warn', fields: ['sequence', 'hours', 'expiresAt'] },
  'deny-list-expired': { level: 'error', fields: ['sequence', 'hours', 'expiresAt'] },
  'deny-list-unreadable': { level: 'error', fields: ['error'] },

  'enclave-boot': { level: 'info', fields: ['step', 'durationMs'] },
  'enclave-deny-list': { level: 'info', fields: ['outcome', 'sequence', 'code'] },
  'enclave-requests': {
    level: 'info',
    fields: ['connections', 'served', 'refused', 'failed', 'overloaded'],
  },
  'enclave-durations': {
    level: 'info',
    fields: ['kind', 'under-10ms', 'under-100ms', 'under-1s', 'under-10s', 'longer'],
  },
};
