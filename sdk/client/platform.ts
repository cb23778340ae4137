/** The server itself: nodes, stores, tokens, health. */
import type { NodeRecord, Scope, TokenRecord, Usage } from '../protocol/api.ts';
import { ClientError, readFailure } from './error.ts';
import type { ClientResponse } from './fetch.ts';
import type { CallOptions } from './functions.ts';
import type { Transport } from './transport.ts';

/** Whether functions can be deployed and invoked now, and what stands in the way. */
export interface Readiness {
  readonly ready: boolean;
  readonly checks: Readonly<Record<string, { readonly ok: boolean; readonly reason?: string }>>;
}

/** The token itself is shown once, when it is made. */
export interface CreatedToken {
  readonly token: string;
  readonly record: TokenRecord;
}

export interface Platform {
  nodes(options?: CallOptions): Promise<NodeRecord[]>;
  /** What every store uses of its budget. */
  df(options?: CallOptions): Promise<Usage[]>;
  tokens: {
    list(options?: CallOptions): Promise<TokenRecord[]>;
    create(
      request: {
        readonly name: string;
        readonly scopes: readonly Scope[];
        readonly expiresMs?: number | undefined;
      },
      options?: CallOptions,
    ): Promise<CreatedToken>;
    remove(id: string, options?: CallOptions): Promise<void>;
  };
  /** Throws ClientError when nobody answers. */
  health(options?: CallOptions): Promise<Readiness>;
}

export function createPlatform(transport: Transport<ClientResponse>): Platform {
  return {
    nodes: ({ signal } = {}) =>
      transport
        .json<{ nodes: NodeRecord[] }>({ what: 'list nodes', path: '/v1/nodes', signal })
        .then((body) => body.nodes),
    df: ({ signal } = {}) =>
      transport
        .json<{ stores: Usage[] }>({ what: 'disk usage', path: '/v1/df', signal })
        .then((body) => body.stores),
    tokens: {
      list: ({ signal } = {}) =>
        transport
          .json<{ tokens: TokenRecord[] }>({ what: 'list tokens', path: '/v1/tokens', signal })
          .then((body) => body.tokens),
      create: (request, { signal } = {}) =>
        transport.json({
          what: `create token "${request.name}"`,
          method: 'POST',
          path: '/v1/tokens',
          headers: [['content-type', 'application/json']],
          body: JSON.stringify(request),
          signal,
        }),
      async remove(id, { signal } = {}) {
        const path = `/v1/tokens/${encodeURIComponent(id)}`;
        const response = await transport.send({ what: `remove token ${id}`, method: 'DELETE', path, signal });
        await response.text();
      },
    },
    async health({ signal } = {}) {
      const never = (): boolean => false;
      const response = await transport.fetch({ what: 'health', path: '/readyz', signal, mayRepeat: never });
      // 503 is an answer here, not a failure.
      if (response.status !== 200 && response.status !== 503) throw await readFailure(response, 'health');
      const text = await response.text();
      try {
        return JSON.parse(text) as Readiness;
      } catch (error) {
        const detail = `health: the answer of ${transport.url} is not JSON; is that a Skiff server?`;
        throw new ClientError({ code: 'BAD_RESPONSE', status: response.status, detail, cause: error });
      }
    },
  };
}
