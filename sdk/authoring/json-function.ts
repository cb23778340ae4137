/**
 * Functions of JSON: reads and checks the input, calls `handle`, writes what it returns. Input that is no JSON, or not
 * what the schema says, is answered with status 400 and never reaches the handler.
 */
import type { FunctionContext, FunctionHandler } from '../protocol/context.ts';
import { type InputSchema, type SchemaIssue, STREAM_MEDIA_TYPE } from '../protocol/typed/json-function.ts';

export type JsonHandle<Parsed, Output> = (
  input: Parsed,
  context: FunctionContext,
  request: Request,
) => Output | Promise<Output>;

interface JsonParts<Parsed, Output> {
  readonly input?: InputSchema<unknown, Parsed> | undefined;
  readonly handle: JsonHandle<Parsed, Output>;
}

export function createJsonHandler<Parsed, Output>(parts: JsonParts<Parsed, Output>): FunctionHandler {
  return async (request, context) => {
    const text = await request.text();
    let value: unknown;
    try {
      value = text === '' ? undefined : JSON.parse(text);
    } catch (error) {
      return refuse(`the body is not JSON: ${(error as Error).message}`);
    }
    const checked = await parts.input?.['~standard'].validate(value);
    if (checked?.issues) return refuse(describeIssues(checked.issues), checked.issues);
    const input = checked === undefined ? (value as Parsed) : checked.value;
    return answer(await parts.handle(input, context, request));
  };
}

function answer(output: unknown): Response {
  if (output instanceof Response) return output;
  if (output === undefined) return new Response(null, { status: 204 });
  return isStream(output)
    ? new Response(writeLines(output), { headers: { 'content-type': STREAM_MEDIA_TYPE } })
    : Response.json(output);
}

function isStream(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value;
}

/** One value at a time, as fast as they are read. A reader that leaves ends the iteration. */
function writeLines(items: AsyncIterable<unknown>): ReadableStream<Uint8Array> {
  const iterator = items[Symbol.asyncIterator]();
  const encoder = new TextEncoder();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const next = await iterator.next();
      if (next.done === true) return controller.close();
      controller.enqueue(encoder.encode(`${JSON.stringify(next.value)}\n`));
    },
    async cancel(reason) {
      await iterator.return?.(reason);
    },
  });
}

function refuse(detail: string, issues?: readonly SchemaIssue[]): Response {
  const problem = { type: 'about:blank', title: 'The input was refused.', status: 400, code: 'BAD_REQUEST' };
  return new Response(JSON.stringify({ ...problem, detail, ...(issues && { issues }) }), {
    status: 400,
    headers: { 'content-type': 'application/problem+json' },
  });
}

function describeIssues(issues: readonly SchemaIssue[]): string {
  return issues
    .map(({ message, path = [] }) => {
      const place = path.map((part) => String(typeof part === 'object' ? part.key : part)).join('.');
      return place === '' ? message : `${place}: ${message}`;
    })
    .join('; ');
}
