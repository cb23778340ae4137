/** API tokens. */
import type { TokenRecord } from '../../sdk/protocol/api.ts';
import type { GatewayParts } from '../parts.ts';
import type { Handlers } from './route.ts';

export function createTokenHandlers({
  catalog,
  dropTokens,
}: GatewayParts): Pick<Handlers, 'whoAmI' | 'createToken' | 'listTokens' | 'revokeToken'> {
  return {
    // The route has a scope, so that there is a token.
    whoAmI: (_input, c) => Promise.resolve(c.var.token as TokenRecord),

    createToken: ({ body }) => catalog.createToken(body),

    async listTokens() {
      return { tokens: await catalog.listTokens() };
    },

    async revokeToken({ id }) {
      await catalog.revokeToken(id);
      // Other gateways hear of it by message; this one must not accept the token once it has answered.
      dropTokens();
      return undefined;
    },
  };
}
