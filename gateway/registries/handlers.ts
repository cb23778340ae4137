/** Logins to registries of images: set after the registry took them, listed without passwords, removed. */
import type { GatewayParts } from '../parts.ts';
import { REGISTRY_HOST } from '../../infra/oci/external-registry.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { Handlers } from '../routes/route.ts';

type RegistryRoutes = 'setRegistryLogin' | 'listRegistryLogins' | 'removeRegistryLogin';

export function createRegistryHandlers({ logins }: GatewayParts): Pick<Handlers, RegistryRoutes> {
  return {
    async setRegistryLogin({ host, body }) {
      if (!REGISTRY_HOST.test(host))
        throw new SkiffError('INVALID_NAME', `"${host}" is no registry; give its host, as in host:5000`);
      await logins.check(host, body);
      return logins.store.set(host, body.user, body.password);
    },

    async listRegistryLogins() {
      return { registries: await logins.store.list() };
    },

    async removeRegistryLogin({ host }) {
      await logins.store.remove(host);
      return undefined;
    },
  };
}
