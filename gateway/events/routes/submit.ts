/** Batches of events, and what is known about the queue as a whole. */
import { ERRORS, SkiffError } from '../../../sdk/protocol/errors.ts';
import type { EventInput, EventReceipt, FollowerInput } from '../../../sdk/protocol/events.ts';
import type { TokenRecord } from '../../../sdk/protocol/api.ts';
import { owns } from '../../middleware/auth.ts';
import { classify } from '../../middleware/problem.ts';
import type { GatewayParts } from '../../parts.ts';
import { functionNotFound } from '../../routes/links.ts';
import type { Handlers } from '../../routes/route.ts';
import { chooseTarget } from '../../invoke/routes.ts';
import type { NewEvent } from '../accept/acceptor.ts';
import { createRequest } from '../accept/event-request.ts';
import { describeReceipt } from '../accept/http-entrance.ts';
import type { EventParts } from '../parts.ts';

export function createSubmitHandlers(
  { publicUrl }: Pick<GatewayParts, 'publicUrl'>,
  { acceptor, routes, store, durability, queues }: EventParts,
): Pick<Handlers, 'submitEvents' | 'submitGroup' | 'readEventStats'> {
  async function describe(input: EventInput): Promise<NewEvent> {
    const { function: name, method, path, headers, body, bodyBase64, ...options } = input;
    const route = await routes.get(name);
    if (!route) throw functionNotFound(name);
    return {
      deployment: chooseTarget(route, Math.random()),
      ...createRequest({ method, path, headers, body }, publicUrl, bodyBase64),
      options,
      origin: 'batch',
    };
  }

  async function submitEach(inputs: readonly EventInput[]): Promise<EventReceipt[]> {
    return Promise.all(
      inputs.map((input) =>
        describe(input)
          .then((event) => acceptor.accept(event))
          .then(describeReceipt, describeError),
      ),
    );
  }

  /** All in one write: what follows can neither come without them nor miss one. */
  async function submitGroup(inputs: readonly EventInput[], then: FollowerInput) {
    const { function: name, path, headers, ...options } = then;
    const route = await routes.get(name);
    if (!route) throw functionNotFound(name);
    const follower = {
      deployment: chooseTarget(route, Math.random()),
      ...createRequest({ method: 'POST', path, headers, body: undefined }, publicUrl),
      options,
      origin: 'batch',
    };
    // One that cannot be described is known before anything is accepted: a group is taken as a whole.
    const events = await Promise.all(inputs.map(describe));
    const group = await acceptor.acceptGroup(follower, events);
    return {
      events: group.events.map((each) => ('id' in each ? describeReceipt(each) : describeError(each.error))),
      then: describeReceipt(group.then),
    };
  }

  return {
    async submitEvents({ body }, c) {
      c.header('preference-applied', 'respond-async');
      const events = await submitEach(body);
      const errors = events.flatMap((receipt) => ('error' in receipt ? [receipt.error] : []));
      // If the store takes nothing, the batch as a whole is told so: clients repeat on 503.
      const [first] = errors;
      if (errors.length === events.length && first && isPlatforms(first.code)) {
        throw new SkiffError(first.code, first.message);
      }
      return { events };
    },

    submitGroup: ({ body: { events, then } }) => submitGroup(events, then),

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

function describeError(error: unknown): EventReceipt {
  const { code, message } = classify(error);
  return { error: { code, message } };
}

const isPlatforms = (code: string): code is keyof typeof ERRORS =>
  code in ERRORS && ERRORS[code as keyof typeof ERRORS].fault === 'platform';
