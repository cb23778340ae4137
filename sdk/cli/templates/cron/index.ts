/** Runs by the clock: skiff cron create says when. */
import type { FunctionContext } from 'skiff';

/** A tick is a request like any other, with the moment it was meant for in a header. */
export default async function handle(request: Request, context: FunctionContext): Promise<Response> {
  const planned = request.headers.get('skiff-scheduled-for') ?? 'by hand';
  context.log.info('tick', { schedule: request.headers.get('skiff-schedule') ?? 'none', planned });
  return Response.json({ planned });
}
