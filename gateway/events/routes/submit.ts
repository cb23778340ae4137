/** Batches of events, and what is known about the queue as a whole. */
import { ERRORS, SkiffError } from '../../../sdk/protocol/errors.ts';
import type { EventInput, EventReceipt } from '../../../sdk/protocol/events.ts';
import type { TokenRecord } from '../../../sdk/protocol/api.ts';
import { owns } from '../../middleware/auth.ts';
import { classify } from '../../middleware/problem.ts';
import type { GatewayParts } from '../../parts.ts';
import { functionNotFound } from '../../routes/links.ts';
import type { Handlers } from '../../routes/route.ts';
import { chooseTarget } from '../../invoke/routes.ts';
import { createRequest } from '../accept/event-request.ts';
import { describeReceipt } from '../accept/http-entrance.ts';
import type { EventParts } from '../parts.ts';

export function createSubmitHandlers(
  { publicUrl }: Pick<GatewayParts, 'publicUrl'>,
  { acceptor, routes, store, durability, queues }: EventParts,
): Pick<Handlers, 'submitEvents' | 'readEventStats'> {
  async function submit(input: EventInput, token: TokenRecord | undefined): Promise<EventReceipt> {
    const { function: name, method, path, headers, body, bodyBase64, ...options } = input;
    const route = owns(token, name) ? await routes.get(name) : undefined;
    if (!route) throw functionNotFound(name);
    const receipt = await acceptor.accept({
      deployment: chooseTarget(route, Math.random()),
      ...createRequest({ method, path, headers, body }, publicUrl, bodyBase64),
      options,
      origin: 'batch',
    });
    return describeReceipt(receipt);
  }

  return {
    async submitEvents({ body }, c) {
      const events = await Promise.all(
        body.map((input) =>
          submit(input, c.var.token).catch((error: unknown): EventReceipt => {
            const { code, message } = classify(error);
            return { error: { code, message } };
          }),
        ),
      );
      const errors = events.flatMap((receipt) => ('error' in receipt ? [receipt.error] : []));
      // If the store takes nothing, the batch as a whole is told so: clients repeat on 503.
      const [first] = errors;
      if (errors.length === events.length && first && isPlatforms(first.code)) {
        throw new SkiffError(first.code, first.message);
      }
      c.header('preference-applied', 'respond-async');
      return { events };
    },

    async readEventStats() {
      const [counters, unfinished, dead, jobs] = await Promise.all([
        store.stats(),
        store.countUnfinished(),
        store.countDead(),
        queues.count(),
      ]);
      return {
        durability: durability.class,
        ...(durability.problem === undefined ? {} : { problem: durability.problem }),
        unfinished,
        dead,
        queued: jobs.waiting,
        held: jobs.active,
        counters,
      };
    },
  };
}

const isPlatforms = (code: string): code is keyof typeof ERRORS =>
  code in ERRORS && ERRORS[code as keyof typeof ERRORS].fault === 'platform';
