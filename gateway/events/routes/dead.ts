/** The dead-letter queue: dead and expired invocations. */
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import type { InvocationRecord } from '../../../sdk/protocol/events.ts';
import { EVENT_AGE_MS_DEFAULT } from '../../../sdk/protocol/limits.ts';
import type { TokenRecord } from '../../../sdk/protocol/api.ts';
import { owns } from '../../middleware/auth.ts';
import type { GatewayParts } from '../../parts.ts';
import type { Handlers } from '../../routes/route.ts';
import { policyOf } from '../accept/acceptor.ts';
import type { EventParts } from '../parts.ts';

type DeadRoutes = 'listDead' | 'replayDead' | 'purgeDead';

interface Selection {
  readonly ids?: readonly string[] | undefined;
  readonly function?: string | undefined;
  readonly all?: true | undefined;
}

const PAGE = 200;

const notFound = (id: string): SkiffError =>
  new SkiffError('NOT_FOUND', `there is no asynchronous invocation ${id}`);

export function createDeadHandlers(
  { log }: Pick<GatewayParts, 'log'>,
  { store, queues, routes }: EventParts,
): Pick<Handlers, DeadRoutes> {
  const { list, select } = createReader(store);

  async function replay(id: string) {
    const record = await store.get(id);
    if (!record) return undefined;
    const config = (await routes.get(record.functionName))?.targets[0]?.deployment.config;
    // Today's rules, not those of the deployment that failed: repairing them is what comes before a replay.
    const policy = config && policyOf(config);
    const { state, jobs } = await store.redrive(id, config?.async.maxAge ?? EVENT_AGE_MS_DEFAULT, policy);
    queues.add(jobs).catch((error: unknown) => log.debug({ error }, 'jobs not added yet'));
    return state && { id, state };
  }

  return {
    async listDead({ query }, c) {
      const { token } = c.var;
      const invocations: InvocationRecord[] = [];
      for await (const record of list(query.function, query.before ?? Infinity, token)) {
        invocations.push(record);
        if (invocations.length >= query.limit) break;
      }
      // How many others have is nobody else's business.
      const total = token?.namespace === undefined ? await store.countDead() : invocations.length;
      return { invocations, total };
    },

    async replayDead({ body }, c) {
      const replayed = [];
      for (const id of await select(body, c.var.token)) {
        const done = await replay(id);
        if (done) replayed.push(done);
        else if (body.ids) throw notFound(id);
      }
      return { replayed };
    },

    async purgeDead({ body }, c) {
      const ids = await select(body, c.var.token);
      let purged = 0;
      for (let i = 0; i < ids.length; i += PAGE) purged += await store.purge(ids.slice(i, i + PAGE));
      return { purged };
    },
  };
}

/** Reads what is dead and the token's: what is somebody else's does not exist for it. */
function createReader(store: EventParts['store']) {
  /** Newest first; looks at all there are when it has to filter. */
  async function* list(
    functionName: string | undefined,
    before: number,
    token: TokenRecord | undefined,
  ): AsyncGenerator<InvocationRecord> {
    for (let end = before; ;) {
      const ids = await store.listDead(end, PAGE);
      const records = await store.getMany(ids);
      for (const record of records) {
        if (functionName !== undefined && record.functionName !== functionName) continue;
        if (owns(token, record.functionName)) yield record;
      }
      const last = records.at(-1)?.endedMs;
      if (ids.length < PAGE || last === undefined) return;
      end = last;
    }
  }

  async function select(selection: Selection, token: TokenRecord | undefined): Promise<string[]> {
    if (selection.ids) {
      const records = await store.getMany(selection.ids);
      const foreign = new Set(records.filter((one) => !owns(token, one.functionName)).map(({ id }) => id));
      const [first] = foreign;
      if (first !== undefined) throw notFound(first);
      return [...selection.ids];
    }
    if (selection.function === undefined && selection.all !== true) {
      throw new SkiffError('BAD_REQUEST', 'say which: ids, a function, or "all": true');
    }
    const ids: string[] = [];
    for await (const { id } of list(selection.function, Infinity, token)) ids.push(id);
    return ids;
  }

  return { list, select };
}
