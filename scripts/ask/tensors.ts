/** One inference of the Open Inference Protocol v2. */
import { ClientError } from '../../client/index.ts';
import { expectAnswered } from './refusal.ts';

export interface TensorAnswer {
  readonly outputs?: readonly {
    readonly name?: unknown;
    readonly shape?: unknown;
    readonly data?: unknown;
  }[];
}

export async function askTensors(
  fetch: typeof globalThis.fetch,
  {
    model,
    body,
    signal,
  }: { readonly model: string; readonly body: Uint8Array<ArrayBuffer>; signal: AbortSignal },
): Promise<TensorAnswer> {
  const response = await fetch(`/v2/models/${encodeURIComponent(model)}/infer`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
    signal,
  });
  await expectAnswered(response);
  const text = await response.text();
  try {
    return JSON.parse(text) as TensorAnswer;
  } catch (cause) {
    throw new ClientError(
      'CLIENT_REQUEST_REFUSED',
      'The enclave answers with something other than JSON.',
      cause,
    );
  }
}

export function tensorLines({ outputs = [] }: TensorAnswer): string {
  return outputs
    .map(({ name, shape, data }) => `${name} ${JSON.stringify(shape)}: ${JSON.stringify(data)}`)
    .join('\n');
}
