import { ClientError } from '../../client/index.ts';

/** Throws ClientError `CLIENT_REQUEST_REFUSED` with the enclave's own words unless it answered the request. */
export async function expectAnswered(response: Response): Promise<void> {
  if (response.ok) return;
  const reason = reasonIn(await response.text());
  throw new ClientError('CLIENT_REQUEST_REFUSED', `The enclave answers ${response.status}: ${reason}`);
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
