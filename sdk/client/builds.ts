/**
 * Builds. Invariant: a build's events are delivered in order and once, also when the connection that carries them
 * is cut and opened again (the server repeats them from the first).
 */
import type { BuildEvent, BuildRecord } from '../protocol/api.ts';
import { ClientError, isCut } from './error.ts';
import { type ClientResponse, readJsonLines } from './fetch.ts';
import type { CallOptions } from './functions.ts';
import { wait } from './retry.ts';
import type { Transport } from './transport.ts';

export interface Builds {
  /** Of the last day, newest first. */
  builds(
    options?: CallOptions & { readonly function?: string | undefined; readonly limit?: number | undefined },
  ): Promise<BuildRecord[]>;
  build(id: string, options?: CallOptions): Promise<BuildRecord>;
  /** A waiting build ends at once, a running one as soon as its builder notices. Ended ones stay as they are. */
  cancelBuild(id: string, options?: CallOptions): Promise<BuildRecord>;
  /** All events of a build, past ones first, until it ends. */
  buildEvents(id: string, options?: CallOptions): AsyncGenerator<BuildEvent, void, undefined>;
  /** Waits for the end of a build, whatever it is. */
  followBuild(
    id: string,
    options?: CallOptions & { readonly onEvent?: ((event: BuildEvent) => void) | undefined },
  ): Promise<BuildRecord>;
}

const RECONNECTS_MAX = 20;
const RECONNECT_MS = 250;

export function createBuilds(transport: Transport<ClientResponse>): Builds {
  const pathOf = (id: string): string => `/v1/builds/${encodeURIComponent(id)}`;

  async function* buildEvents(id: string, { signal }: CallOptions = {}) {
    const path = `${pathOf(id)}/events`;
    let seen = 0;
    let isOpened = false;
    for (let cuts = 0; ; cuts++) {
      let index = 0;
      try {
        const response = await transport.send({ what: `events of build ${id}`, path, signal });
        isOpened = true;
        for await (const event of readJsonLines<BuildEvent>(response.body)) {
          if (index++ < seen) continue;
          seen = index;
          yield event;
          if (event.type === 'end') return;
        }
      } catch (error) {
        signal?.throwIfAborted();
        if (!isOpened || !isCut(error) || cuts >= RECONNECTS_MAX) throw error;
      }
      if (cuts >= RECONNECTS_MAX) throw cut(id);
      await wait(RECONNECT_MS, signal);
    }
  }

  const followBuild: Builds['followBuild'] = async (id, { signal, onEvent } = {}) => {
    for await (const event of buildEvents(id, { signal })) {
      onEvent?.(event);
      if (event.type === 'end') return event.build;
    }
    throw cut(id);
  };

  return {
    buildEvents,
    followBuild,
    builds: ({ signal, ...query } = {}) =>
      transport
        .json<{ builds: BuildRecord[] }>({ what: 'list builds', path: '/v1/builds', query, signal })
        .then((body) => body.builds),
    build: (id, { signal } = {}) => transport.json({ what: `build ${id}`, path: pathOf(id), signal }),
    cancelBuild: (id, { signal } = {}) =>
      transport.json({ what: `cancel build ${id}`, method: 'DELETE', path: pathOf(id), signal }),
  };
}

function cut(id: string): ClientError {
  const detail = `events of build ${id}: the connection was cut again and again; the build may still be running`;
  return new ClientError({ code: 'UNREACHABLE', status: 0, detail });
}
