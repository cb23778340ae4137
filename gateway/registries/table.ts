/** Routes of logins to other registries; part of the one table (routes/table.ts). */
import { z } from 'zod';
import { RegistryLogin } from '../../sdk/protocol/api.ts';
import type { RouteSpec } from '../routes/table.ts';

export const REGISTRY_ROUTES = {
  setRegistryLogin: {
    method: 'PUT',
    path: '/v1/registries/:host',
    scope: 'deploy',
    summary: 'Log this server in to a registry of images. The registry is asked before the login is kept.',
    body: z.strictObject({ user: z.string().min(1).max(255), password: z.string().min(1).max(16_384) }),
    status: 200,
    response: RegistryLogin,
    errors: ['INVALID_NAME', 'CONFLICT'],
  },
  listRegistryLogins: {
    method: 'GET',
    path: '/v1/registries',
    scope: 'deploy',
    summary: 'All logins to registries of images, without passwords.',
    status: 200,
    response: z.object({ registries: z.array(RegistryLogin) }),
    errors: [],
  },
  removeRegistryLogin: {
    method: 'DELETE',
    path: '/v1/registries/:host',
    scope: 'deploy',
    summary: 'Forget the login to a registry of images. What was deployed from it runs on.',
    status: 204,
    errors: ['NOT_FOUND'],
  },
} as const satisfies Record<string, RouteSpec>;
