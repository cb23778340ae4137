/** Batches of events, and what is known about the queue as a whole. */
import { ERRORS, SkiffError } from '../../../sdk/protocol/errors.ts';
import type { EventInput, EventReceipt, FollowerInput } from '../../../sdk/protocol/events.ts';
import type { Deployment, TokenRecord } from '../../../sdk/protocol/api.ts';
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

type Token = TokenRecord | undefined;

/** What is handed in, for functions that are the token's. */
function createSubmitter(publicUrl: string, { acceptor, routes }: EventParts) {
  async function findTarget(name: string, token: Token): Promise<Deployment> {
    const route = owns(token, name) ? await routes.get(name) : undefined;
    if (!route) throw functionNotFound(name);
    return chooseTarget(route, Math.random());
  }

  async function describe(input: EventInput, token: Token): Promise<NewEvent> {
    const { function: name, method, path, headers, body, bodyBase64, ...options } = input;
    return {
      deployment: await findTarget(name, token),
      ...createRequest({ method, path, headers, body }, publicUrl, bodyBase64),
      options,
      origin: 'batch',
    };
  }

  async function submitEach(inputs: readonly EventInput[], token: Token): Promise<EventReceipt[]> {
    return Promise.all(
      inputs.map((input) =>
        describe(input, token)
          .then((event) => acceptor.accept(event))
          .then(describeReceipt, describeError),
      ),
    );
  }

  /** All in one write: what follows can neither come without them nor miss one. */
  async function submitGroup(inputs: readonly EventInput[], last: FollowerInput, token: Token) {
    const { function: name, path, headers, ...options } = last;
    const follower = {
      deployment: await findTarget(name, token),
      ...createRequest({ method: 'POST', path, headers, body: undefined }, publicUrl),
      options,
      origin: 'batch',
    };
    // One that cannot be described is known before anything is accepted: a group is taken as a whole.
    const events = await Promise.all(inputs.map((input) => describe(input, token)));
    const group = await acceptor.acceptGroup(follower, events);
    return {
      events: group.events.map((each) => ('id' in each ? describeReceipt(each) : describeError(each.error))),
      follower: describeReceipt(group.follower),
    };
  }

  return { submitEach, submitGroup };
}

export function createSubmitHandlers(
  { publicUrl }: Pick<GatewayParts, 'publicUrl'>,
  parts: EventParts,
): Pick<Handlers, 'submitEvents' | 'submitGroup' | 'readEventStats'> {
  const { store, durability, queues } = parts;
  const { submitEach, submitGroup } = createSubmitter(publicUrl, parts);
  return {
    async submitEvents({ body }, c) {
      c.header('preference-applied', 'respond-async');
      const events = await submitEach(body, c.var.token);
      const errors = events.flatMap((receipt) => ('error' in receipt ? [receipt.error] : []));
      // If the store takes nothing, the batch as a whole is told so: clients repeat on 503.
      const [first] = errors;
      if (errors.length === events.length && first && isPlatforms(first.code)) {
        throw new SkiffError(first.code, first.message);
      }
      return { events };
    },

    submitGroup: ({ body: { events, follower } }, c) => submitGroup(events, follower, c.var.token),

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
