import { ClientError } from '../../client/index.ts';

/**
 * Throws ClientError `CLIENT_REQUEST_REFUSED` with the enclave's own words unless it answered the request, or
 * `CLIENT_REQUEST_LATER` if it is only too busy.
 */
export async function expectAnswered(response: Response): Promise<void> {
  if (response.ok) return;
  const reason = reasonIn(await response.text());
  const answer = `The enclave answers ${response.status}: ${reason}`;
  if (response.status !== 429 && response.status !== 503) {
    throw new ClientError('CLIENT_REQUEST_REFUSED', answer);
  }
  const seconds = response.headers.get('retry-after');
  const when = seconds === null ? '' : ` (try again in ${seconds} s)`;
  throw new ClientError('CLIENT_REQUEST_LATER', `${answer}${when}`, undefined, Number(seconds ?? 1));
}

/** `{"error": text}` in the Open Inference Protocol, `{"error": {"message": text}}` in OpenAI's API. */
function reasonIn(text: string): string {
  try {
    const { error } = JSON.parse(text) as { error?: string | { readonly message?: unknown } };
    return String(typeof error === 'object' ? error.message : error);
  } catch {
    return text.slice(0, 200);
  }
}
