/** Receives CloudEvents in the binary mode of the HTTP binding, https://cloudevents.io */
import type { FunctionContext } from 'skiff';

interface Order {
  readonly id: string;
  readonly total: number;
}

export default async function handle(request: Request, context: FunctionContext): Promise<Response> {
  const type = request.headers.get('ce-type');
  if (type !== 'example.order.created')
    return new Response(`no handler for event type ${type}\n`, { status: 422 });
  const order = (await request.json()) as Order;
  context.log.info('order created', {
    event: request.headers.get('ce-id'),
    order: order.id,
    total: order.total,
  });
  return new Response(null, { status: 204 });
}
