/** Answers every request. `context` has the invocation's id, deadline, log and more. */
import type { FunctionContext } from 'skiff';

export default async function handle(request: Request, context: FunctionContext): Promise<Response> {
  const url = new URL(request.url);
  context.log.info('called', { path: url.pathname });
  const name = url.searchParams.get('name') ?? 'world';
  return Response.json({ message: `Hello, ${name}!`, invocation: context.invocationId });
}
