/** Keeps finished thumbnails under the id of the event that they came with, and shows them. */
import type { FunctionContext } from 'skiff';

interface Ended {
  readonly data: {
    readonly invocation: string;
    readonly result?: { readonly contentType?: string; readonly bodyBase64?: string };
  };
}

/** A CloudEvent about the end of an invocation of `thumbnail`. */
async function keep(request: Request, context: FunctionContext): Promise<Response> {
  const { invocation, result } = ((await request.json()) as Ended).data;
  if (result?.bodyBase64 === undefined) return new Response('no thumbnail in it\n', { status: 422 });
  const stored = await fetch(`http://files.skiff/${invocation}`, {
    method: 'PUT',
    body: Buffer.from(result.bodyBase64, 'base64'),
    headers: { 'content-type': result.contentType ?? 'application/octet-stream' },
  });
  if (!stored.ok) throw new Error(`not stored: ${stored.status}`);
  context.log.info('kept', { invocation });
  return new Response(null, { status: 204 });
}

export default (request: Request, context: FunctionContext): Promise<Response> => {
  const { pathname } = new URL(request.url);
  return request.method === 'POST' ? keep(request, context) : fetch(`http://files.skiff${pathname}`);
};
