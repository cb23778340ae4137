/** API tokens. */
import type { GatewayParts } from '../parts.ts';
import type { Handlers } from './route.ts';

export function createTokenHandlers({
  catalog,
}: GatewayParts): Pick<Handlers, 'createToken' | 'listTokens' | 'revokeToken'> {
  return {
    createToken: ({ body }) => catalog.createToken(body),

    async listTokens() {
      return { tokens: await catalog.listTokens() };
    },

    async revokeToken({ id }) {
      await catalog.revokeToken(id);
      return undefined;
    },
  };
}
