/** Works on events in its own time: send one with skiff invoke --async; what fails is tried again. */
import type { FunctionContext } from 'skiff';

interface Order {
  readonly id: string;
  readonly total: number;
}

/** How its events run: tried five more times, the first after two seconds, and given up after a day. */
export const config = { async: { retries: 5, backoff: '2s', maxAge: '1d' } };

/** Takes any JSON, and CloudEvents in the binary mode of their HTTP binding (https://cloudevents.io). */
export default async function handle(request: Request, context: FunctionContext): Promise<Response> {
  const order = (await request.json()) as Order;
  // Whatever is thrown, and any status of 500 and above, is a failure: the event is tried again.
  if (!(order.total > 0)) return new Response('an order has a total above 0\n', { status: 422 });
  context.log.info('order taken', {
    order: order.id,
    total: order.total,
    type: request.headers.get('ce-type') ?? 'none',
  });
  return Response.json({ taken: order.id });
}
