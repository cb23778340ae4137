/** Durable steps from outside: what is stored, and the events that suspended invocations wait for. */
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { REDIS_MEMORY_SHARE_MAX, SIGNAL_BYTES_MAX } from '../../../sdk/protocol/limits.ts';
import { owns } from '../../middleware/auth.ts';
import type { GatewayParts } from '../../parts.ts';
import type { Handlers } from '../../routes/route.ts';
import type { EventParts } from '../parts.ts';

export function createSignalHandlers(
  { log }: Pick<GatewayParts, 'log'>,
  { store, steps, acceptor, queues, durability }: EventParts,
): Pick<Handlers, 'sendSignal' | 'listInvocationSteps'> {
  return {
    async listInvocationSteps({ id }, c) {
      const record = await store.get(id);
      const isTheirs = record !== undefined && owns(c.var.token, record.functionName);
      return { steps: isTheirs ? await steps.list(id) : [] };
    },

    async sendSignal({ body: { name, data } }) {
      const bytes = Buffer.byteLength(JSON.stringify(data ?? null));
      if (bytes > SIGNAL_BYTES_MAX) {
        throw new SkiffError(
          'BODY_TOO_LARGE',
          `the data of "${name}" has ${bytes} bytes; the limit is ${SIGNAL_BYTES_MAX}: send where it is instead`,
        );
      }
      await acceptor.assertDurable();
      const { used, max } = durability.memory;
      const hasRoom = max === 0 || used < max * REDIS_MEMORY_SHARE_MAX;
      const { ids, jobs } = await steps.signal(name, data, hasRoom);
      // Not awaited: what was given is safe, and the pump of a consumer adds what is missing.
      queues.add(jobs).catch((error: unknown) => log.debug({ error }, 'jobs not added yet'));
      return { delivered: ids.length, invocations: [...new Set(ids)] };
    },
  };
}
