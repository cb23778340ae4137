/** The answer of a function of JSON as the client reads it. */
import { ClientError, readFailure } from '../client/error.ts';

/** @throws ClientError */
export async function parseAnswer(response: Response, name: string): Promise<unknown> {
  if (response.status >= 400) throw await readFailure(response, `invoke ${name}`);
  const text = await response.text();
  if (text === '') return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    const detail = `invoke ${name}: the answer is not JSON: ${text.slice(0, 100)}`;
    throw new ClientError({ code: 'BAD_RESPONSE', status: response.status, detail, cause });
  }
}
