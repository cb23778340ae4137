/** Turns a request into a handler's input by the route's schemas. */
import type { z } from 'zod';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { API_BODY_BYTES_MAX } from '../../sdk/protocol/limits.ts';
import { clip, describeIssues } from '../../sdk/protocol/manifest.ts';

/** @throws SkiffError BAD_REQUEST with the path of the first problem. */
export function parseInput<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  where: 'body' | 'query',
): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new SkiffError('BAD_REQUEST', describeIssues(parsed.error, where), {
    details: { issues: listIssues(parsed.error) },
  });
}

/** What a program can use: a path and a text for each problem. */
export function listIssues(error: z.ZodError): { path: string; message: string }[] {
  return error.issues.slice(0, 20).map(({ path, message }) => ({
    path: clip(path.join('.')),
    message: clip(message),
  }));
}

/** Whatever its content type says: `curl -d` does not say JSON. @throws SkiffError BAD_REQUEST, BODY_TOO_LARGE */
export async function readJson(request: Request): Promise<unknown> {
  const text = await readText(request);
  if (text.trim() === '') throw new SkiffError('BAD_REQUEST', 'the body is empty; send a JSON object');
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new SkiffError('BAD_REQUEST', `the body is not JSON: ${(error as Error).message}`);
  }
}

async function readText(request: Request): Promise<string> {
  assertSize(Number(request.headers.get('content-length') ?? 0));
  if (!request.body) return '';
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  // Counted as it comes: a chunked body states no length.
  for await (const chunk of request.body as unknown as AsyncIterable<Uint8Array>) {
    bytes += chunk.length;
    assertSize(bytes);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function assertSize(bytes: number): void {
  if (bytes <= API_BODY_BYTES_MAX) return;
  throw new SkiffError(
    'BODY_TOO_LARGE',
    `the body has more than ${API_BODY_BYTES_MAX} bytes, which is the limit of the API`,
  );
}
