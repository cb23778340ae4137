/** Looking at asynchronous invocations, waiting for them, cancelling them. */
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { isFinal, type InvocationRecord } from '../../../sdk/protocol/events.ts';
import { isId, timeOfId } from '../../../sdk/protocol/ids.ts';
import { RECORD_KEPT_MS } from '../../../sdk/protocol/limits.ts';
import { authorize, owns } from '../../middleware/auth.ts';
import type { GatewayParts } from '../../parts.ts';
import type { ApiContext, Handlers } from '../../routes/route.ts';
import type { EventParts } from '../parts.ts';
import { tryCreateResultResponse } from './result.ts';
import type { StateStreamer } from './state-stream.ts';

type InvocationRoutes = 'getInvocation' | 'getInvocationResult' | 'cancelInvocation';

const notFound = (id: string): SkiffError =>
  new SkiffError('NOT_FOUND', `there is no asynchronous invocation ${id}; only they are recorded`);

export function createInvocationHandlers(
  parts: Pick<GatewayParts, 'verifyToken' | 'log'>,
  events: EventParts,
  streamStates: StateStreamer,
): Pick<Handlers, InvocationRoutes> {
  const { store, waiter, queues } = events;

  async function getRecord(id: string): Promise<InvocationRecord> {
    const record = await store.get(id);
    if (record) return record;
    throw isId('inv', id) && Date.now() - timeOfId(id) > RECORD_KEPT_MS
      ? new SkiffError(
          'GONE',
          `${id} ended long ago; records are kept for ${RECORD_KEPT_MS / 86_400_000} days`,
        )
      : notFound(id);
  }

  /** An id cannot be guessed (70 random bits), so for a public function to know it is to be allowed. */
  async function assertReadable(c: ApiContext, record: InvocationRecord): Promise<void> {
    const route = await events.routes.get(record.functionName);
    if (route?.targets.every(({ deployment }) => deployment.config.access === 'public')) return;
    const authorization = c.req.header('authorization');
    const { functionName } = record;
    await authorize(parts.verifyToken, authorization, 'read', { functionName }).catch(() =>
      authorize(parts.verifyToken, authorization, 'invoke', { functionName }),
    );
  }

  return {
    async getInvocation({ id, query, signal }, c) {
      const record = await getRecord(id);
      await assertReadable(c, record);
      if (c.req.header('accept')?.includes('text/event-stream')) return streamStates(id, signal);
      if (query.waitMs === 0 || isFinal(record.state)) return record;
      await waiter.wait(id, query.waitMs, signal);
      return getRecord(id);
    },

    async getInvocationResult({ id, query, signal }, c) {
      let record = await getRecord(id);
      await assertReadable(c, record);
      if (query.waitMs > 0 && !isFinal(record.state)) {
        await waiter.wait(id, query.waitMs, signal);
        record = await getRecord(id);
      }
      if (!isFinal(record.state)) return c.json(record, 202, { location: `/v1/invocations/${id}` });
      const response = await tryCreateResultResponse(events, id);
      if (response) return response;
      throw record.resultExpiresMs === undefined
        ? new SkiffError('NOT_FOUND', `${id} is ${record.state} (${record.reason}) and has no result`)
        : new SkiffError(
            'GONE',
            `the result of ${id} was kept until ${new Date(record.resultExpiresMs).toISOString()}`,
          );
    },

    async cancelInvocation({ id }, c) {
      // One of somebody else is answered as one that does not exist.
      if (!owns(c.var.token, (await getRecord(id)).functionName)) throw notFound(id);
      const { state, jobs } = await store.cancel(id);
      if (state === undefined) return getRecord(id);
      queues.add(jobs).catch((error: unknown) => parts.log.debug({ error }, 'jobs not added yet'));
      return getRecord(id);
    },
  };
}
