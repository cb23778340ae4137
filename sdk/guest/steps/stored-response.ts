/** Answers of other functions as values that can be stored: status, headers and a body of at most STEP_RESULT_BYTES_MAX. */
import type { HeaderList } from '../../protocol/invocation.ts';
import { STEP_RESULT_BYTES_MAX } from '../../protocol/limits.ts';
import { LightResponse } from '../web/light-response.ts';

export interface StoredResponse {
  readonly status: number;
  readonly headers: HeaderList;
  /** Base64. */
  readonly body: string;
}

/** With base64, head and a name it must fit a step. */
const BODY_BYTES_MAX = STEP_RESULT_BYTES_MAX / 2;
const BODILESS: ReadonlySet<number> = new Set([204, 205, 304]);

/** `stored` is undefined when it is too large: then only `response` is of use. */
export async function readResponse(
  answer: Response,
): Promise<{ stored: StoredResponse | undefined; response: Response }> {
  const { status } = answer;
  const headers = [...answer.headers];
  const reader = answer.body?.getReader();
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  while (reader && bytes <= BODY_BYTES_MAX) {
    const { done, value } = await reader.read();
    if (done) {
      const stored = { status, headers, body: Buffer.concat(pieces).toString('base64') };
      return { stored, response: restoreResponse(stored) };
    }
    pieces.push(value);
    bytes += value.length;
  }
  if (!reader) {
    const stored = { status, headers, body: '' };
    return { stored, response: restoreResponse(stored) };
  }
  const rest = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const first = pieces.shift();
      if (first) return controller.enqueue(first);
      const { done, value } = await reader.read();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: (reason) => reader.cancel(reason),
  });
  return { stored: undefined, response: new LightResponse(rest, { status, headers }) as unknown as Response };
}

export function restoreResponse({ status, headers, body }: StoredResponse): Response {
  const content = BODILESS.has(status) ? null : Buffer.from(body, 'base64');
  return new LightResponse(content, {
    status,
    headers: headers as [string, string][],
  }) as unknown as Response;
}
