/** What goes on (calls of the last seconds) and what went on (where the time of one invocation went). */
import type { StatsSnapshot, Trace, TraceSpan } from '../../protocol/api.ts';
import { ClientError, isCut } from '../error.ts';
import { type ClientResponse, readEvents } from '../fetch.ts';
import type { CallOptions } from '../functions.ts';
import { wait } from '../retry.ts';
import type { Transport } from '../transport.ts';

export interface CallSelection {
  readonly function?: string | undefined;
  readonly only?: 'failed' | 'cold' | undefined;
  /** Default 50. */
  readonly limit?: number | undefined;
}

export interface StatsReader {
  /** The last ten seconds of every function. */
  stats(options?: CallOptions): Promise<StatsSnapshot>;
  /** The same every second, until `signal` is aborted or you stop iterating. */
  followStats(options?: CallOptions): AsyncGenerator<StatsSnapshot, void, undefined>;
  /** The last synchronous invocations that the gateway answered, newest first. */
  calls(options?: CallOptions & CallSelection): Promise<TraceSpan[]>;
  /**
   * Where the time of an invocation went, with the calls it made; of an asynchronous one, its attempts. A gateway keeps
   * its last few thousand calls only: NOT_FOUND for others.
   */
  trace(id: string, options?: CallOptions): Promise<Trace>;
}

const RECONNECT_MS = 500;
/** A gateway that restarts is back within a few seconds. */
const RECONNECTS_MAX = 20;

export function createStats(transport: Transport<ClientResponse>): StatsReader {
  return {
    stats: ({ signal } = {}) => transport.json({ what: 'statistics', path: '/v1/stats', signal }),
    async *followStats({ signal } = {}) {
      let isOpened = false;
      for (let cuts = 0; cuts < RECONNECTS_MAX; cuts++) {
        try {
          const response = await transport.send({ what: 'statistics', path: '/v1/stats/events', signal });
          isOpened = true;
          for await (const snapshot of readEvents<StatsSnapshot>(response.body)) {
            cuts = 0;
            yield snapshot;
          }
        } catch (error) {
          signal?.throwIfAborted();
          if (!isOpened || !isCut(error)) throw error;
        }
        await wait(RECONNECT_MS, signal);
      }
      const detail = 'statistics: the connection was cut';
      throw new ClientError({ code: 'UNREACHABLE', status: 0, detail });
    },
    calls: ({ signal, function: name, only, limit } = {}) =>
      transport
        .json<{ calls: TraceSpan[] }>({
          what: 'last calls',
          path: '/v1/traces',
          query: { function: name, only, limit },
          signal,
        })
        .then((body) => body.calls),
    trace: (id, { signal } = {}) =>
      transport.json({ what: `trace of ${id}`, path: `/v1/traces/${encodeURIComponent(id)}`, signal }),
  };
}
