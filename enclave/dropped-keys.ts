/**
 * OpenSSL cleanses a key when it is freed, but Node frees a key object only when V8 collects it, which may be
 * never in a process that has enough memory. So the RSA key of the exchange with KMS would outlive the data key
 * that it opened.
 */

/** Frees every key object that nothing refers to any more; takes some milliseconds. */
export function freeDroppedKeys(): void {
  const { gc } = globalThis;
  if (gc === undefined) throw new TypeError('the start-up guard admits no process without --expose-gc');
  gc();
}
