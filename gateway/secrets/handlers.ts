/** Secrets of functions: set, listed without values, removed. No route tells a value. */
import type { GatewayParts } from '../parts.ts';
import { describeIssues, StoredSecretName } from '../../sdk/protocol/manifest.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { owns } from '../middleware/auth.ts';
import type { Handlers } from '../routes/route.ts';

type SecretRoutes = 'setSecret' | 'listSecrets' | 'removeSecret' | 'rotateSecretKey';

export function createSecretHandlers({ secrets }: GatewayParts): Pick<Handlers, SecretRoutes> {
  return {
    async setSecret({ name, body }) {
      const parsed = StoredSecretName.safeParse(name);
      if (!parsed.success) throw new SkiffError('INVALID_NAME', describeIssues(parsed.error, 'name'));
      return secrets.set(parsed.data, body.value);
    },

    async listSecrets(_input, c) {
      return { secrets: (await secrets.list()).filter(({ name }) => owns(c.var.token, name)) };
    },

    async removeSecret({ name }) {
      await secrets.remove(name);
      return undefined;
    },

    async rotateSecretKey() {
      return { rotated: await secrets.rotate() };
    },
  };
}
