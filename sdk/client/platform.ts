/** The server itself: nodes, stores, tokens, health. */
import type { NodeRecord, Scope, TokenRecord, Usage } from '../protocol/api.ts';
import type { ClientResponse } from './fetch.ts';
import type { CallOptions } from './functions.ts';
import type { Transport } from './transport.ts';

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
  /** Whether the server is ready for work. False when it answers that it is not; throws when it does not answer. */
  health(options?: CallOptions): Promise<boolean>;
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
      await response.text();
      return response.status === 200;
    },
  };
}
