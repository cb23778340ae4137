/**
 * The one table of the control API: method, path, scope, input, output, errors of every route.
 * Routing, authorisation, validation and /openapi.json are all made from it, so they cannot disagree; a handler for
 * a route that is not here cannot be written, and a route without a scope does not compile.
 * Deliberately absent: /f/<name>, which is the invoker's.
 */
import { z } from 'zod';
import {
  Alias,
  BuildRecord,
  DeployRequest,
  Deployment,
  Digest,
  FunctionRecord,
  LogLine,
  Scope,
  SecretRecord,
  TokenRecord,
  Usage,
} from '../../sdk/protocol/api.ts';
import type { ErrorCode } from '../../sdk/protocol/errors.ts';
import { FunctionName, NamespaceName } from '../../sdk/protocol/manifest.ts';
import { BUILDS_LISTED_MAX, LOG_LINES_KEPT_PER_FUNCTION } from '../../sdk/protocol/limits.ts';
import { EVENT_ROUTES } from '../events/routes/table.ts';
import { REGISTRY_ROUTES } from '../registries/table.ts';
import { STATS_ROUTES } from '../stats/table.ts';
import { SWARM_ROUTES } from '../swarm/table.ts';

export interface RouteSpec {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** With `:name` for parameters. */
  readonly path: string;
  /** What a token needs; `public` needs none. */
  readonly scope: Scope | 'public';
  /**
   * What a token that is bound to a namespace may do: what the path's `name` says is its own (`name`), or all, since
   * the handler shows and touches only what is its own, or since nothing here is anybody's (`sorted`). Absent: nothing,
   * but for routes of one function, which have the function's name in their path.
   */
  readonly bound?: 'name' | 'sorted';
  readonly summary: string;
  readonly query?: z.ZodObject;
  /** JSON body, or `bytes` for one that is streamed. */
  readonly body?: z.ZodType | 'bytes';
  readonly status: number;
  /** Of the body of a success; absent for none. With `ndjson` and `sse` of one line or event. */
  readonly response?: z.ZodType;
  readonly media?: 'json' | 'ndjson' | 'sse' | 'text';
  /** Beyond those that every route of its kind can answer. */
  readonly errors: readonly ErrorCode[];
}

/** Clients read only `type`, `atMs` and what the type says: see BuildEvent in sdk/protocol/api.ts. */
const BuildEventLine = z.looseObject({ type: z.enum(['step', 'log', 'end']), atMs: z.number() });

const AliasRequest = z.strictObject({
  targets: Alias.shape.targets,
  /** `version` of the alias the caller saw; 0 for "there is none yet". Absent: overwrite. */
  version: z.number().int().min(0).optional(),
});

const TokenRequest = z
  .strictObject({
    name: z.string().min(1).max(63),
    scopes: z.array(Scope).min(1),
    functions: z.array(FunctionName).min(1).max(100).optional(),
    namespace: NamespaceName.optional(),
    expiresMs: z.number().int().positive().optional(),
  })
  .refine(
    // Who deploys says which secrets a function gets and what it is called: a list of names would not hold that in.
    ({ scopes, functions }) => !functions || scopes.every((scope) => scope === 'invoke' || scope === 'read'),
    { path: ['functions'], message: 'only tokens to invoke and read can be bound to functions' },
  )
  .refine(({ functions, namespace }) => !functions || namespace === undefined, {
    path: ['namespace'],
    message: 'a token is bound to functions or to a namespace, not to both',
  })
  .refine(({ scopes, namespace }) => namespace === undefined || !scopes.includes('admin'), {
    path: ['namespace'],
    message: 'an admin token makes tokens, so it cannot be bound; give deploy, invoke or read',
  });

const Flag = z.enum(['true', 'false', '1', '0', '']).transform((text) => text !== 'false' && text !== '0');

const LogQuery = z.object({
  /** At most this many of the past lines. 0: only new ones. */
  tail: z.coerce.number().int().min(0).max(LOG_LINES_KEPT_PER_FUNCTION).optional(),
  follow: Flag.default(false),
  after: z
    .string()
    .regex(/^\d+(-\d+)?$/, 'must be the cursor of a log line')
    .optional(),
  /** Epoch milliseconds. */
  since: z.coerce.number().int().min(0).optional(),
  level: LogLine.shape.level.optional(),
  invocation: z.string().max(64).optional(),
  /** Only lines of replicas of this service. */
  service: z.string().max(128).optional(),
  /** Only connections and names that the function's network policy refused. */
  egress: Flag.default(false),
});

const Readiness = z.object({
  ready: z.boolean(),
  checks: z.record(z.string(), z.object({ ok: z.boolean(), reason: z.string().optional() })),
});

export const ROUTES = {
  uploadSource: {
    method: 'POST',
    path: '/v1/uploads',
    scope: 'deploy',
    bound: 'sorted',
    summary: 'Upload the source of a function as a tar archive.',
    body: 'bytes',
    status: 201,
    response: z.object({ digest: Digest, bytes: z.number().int() }),
    errors: ['BODY_TOO_LARGE', 'BAD_REQUEST'],
  },
  deploy: {
    method: 'POST',
    path: '/v1/functions/:name/deployments',
    scope: 'deploy',
    summary: 'Build an uploaded source and make it live. Answers at once; follow the events of the build.',
    body: DeployRequest,
    status: 202,
    response: z.object({ build: z.string(), deployment: z.string() }),
    errors: ['INVALID_NAME', 'INVALID_CONFIG', 'INVALID_SOURCE', 'OVERLOADED'],
  },
  listBuilds: {
    method: 'GET',
    path: '/v1/builds',
    scope: 'read',
    bound: 'sorted',
    summary: 'Builds of the last day, newest first.',
    query: z.object({
      function: z.string().optional(),
      limit: z.coerce.number().int().min(1).max(BUILDS_LISTED_MAX).default(20),
    }),
    status: 200,
    response: z.object({ builds: z.array(BuildRecord) }),
    errors: [],
  },
  getBuild: {
    method: 'GET',
    path: '/v1/builds/:id',
    scope: 'read',
    bound: 'sorted',
    summary: 'State of a build.',
    status: 200,
    response: BuildRecord,
    errors: ['NOT_FOUND'],
  },
  followBuild: {
    method: 'GET',
    path: '/v1/builds/:id/events',
    scope: 'read',
    bound: 'sorted',
    summary: 'All events of a build from the first on, as they come. The last one has type `end`.',
    status: 200,
    response: BuildEventLine,
    media: 'ndjson',
    errors: ['NOT_FOUND', 'OVERLOADED'],
  },
  cancelBuild: {
    method: 'DELETE',
    path: '/v1/builds/:id',
    scope: 'deploy',
    bound: 'sorted',
    summary: 'Cancel a build: at once while it waits, as soon as the builder notices when it runs.',
    status: 202,
    response: BuildRecord,
    errors: ['NOT_FOUND'],
  },
  listFunctions: {
    method: 'GET',
    path: '/v1/functions',
    scope: 'read',
    bound: 'sorted',
    summary: 'All functions, oldest first.',
    status: 200,
    response: z.object({ functions: z.array(FunctionRecord) }),
    errors: [],
  },
  getFunction: {
    method: 'GET',
    path: '/v1/functions/:name',
    scope: 'read',
    summary: 'One function.',
    status: 200,
    response: FunctionRecord,
    errors: ['FUNCTION_NOT_FOUND'],
  },
  removeFunction: {
    method: 'DELETE',
    path: '/v1/functions/:name',
    scope: 'deploy',
    summary: 'Remove a function with its aliases and deployments.',
    status: 204,
    errors: ['FUNCTION_NOT_FOUND'],
  },
  restartFunction: {
    method: 'POST',
    path: '/v1/functions/:name/restart',
    scope: 'deploy',
    summary:
      'End the sandboxes of a function, each when what it does has ended; the calls that come start new ones.',
    status: 204,
    errors: ['FUNCTION_NOT_FOUND'],
  },
  listDeployments: {
    method: 'GET',
    path: '/v1/functions/:name/deployments',
    scope: 'read',
    summary: 'Deployments of a function, newest first.',
    status: 200,
    response: z.object({ deployments: z.array(Deployment) }),
    errors: ['FUNCTION_NOT_FOUND'],
  },
  getDeployment: {
    method: 'GET',
    path: '/v1/deployments/:id',
    scope: 'read',
    bound: 'sorted',
    summary: 'One deployment.',
    status: 200,
    response: Deployment,
    errors: ['NOT_FOUND'],
  },
  setAlias: {
    method: 'PUT',
    path: '/v1/functions/:name/aliases/:alias',
    scope: 'deploy',
    summary: 'Point an alias to one or two deployments. With `version`: only if nobody moved it since.',
    body: AliasRequest,
    status: 200,
    response: Alias,
    errors: ['INVALID_NAME', 'FUNCTION_NOT_FOUND', 'NOT_FOUND', 'CONFLICT'],
  },
  readLogs: {
    method: 'GET',
    path: '/v1/functions/:name/logs',
    scope: 'read',
    summary: 'Log lines of a function, oldest first; with `follow` also those to come.',
    query: LogQuery,
    status: 200,
    response: LogLine,
    media: 'ndjson',
    errors: ['FUNCTION_NOT_FOUND', 'OVERLOADED'],
  },
  ...REGISTRY_ROUTES,
  ...SWARM_ROUTES,
  ...STATS_ROUTES,
  readUsage: {
    method: 'GET',
    path: '/v1/df',
    scope: 'read',
    summary: 'What every store uses of its budget.',
    status: 200,
    response: z.object({ stores: z.array(Usage) }),
    errors: [],
  },
  setSecret: {
    method: 'PUT',
    path: '/v1/secrets/:name',
    scope: 'deploy',
    bound: 'name',
    summary: 'Make a secret or give it a new value. Sandboxes that have the old one end when they are idle.',
    body: z.strictObject({ value: z.string() }),
    status: 200,
    response: SecretRecord,
    errors: ['INVALID_NAME', 'CONFLICT'],
  },
  listSecrets: {
    method: 'GET',
    path: '/v1/secrets',
    scope: 'deploy',
    bound: 'sorted',
    summary: 'All secrets by name, without values.',
    status: 200,
    response: z.object({ secrets: z.array(SecretRecord) }),
    errors: [],
  },
  removeSecret: {
    method: 'DELETE',
    path: '/v1/secrets/:name',
    scope: 'deploy',
    bound: 'name',
    summary: 'Remove a secret. Functions that name it cannot start any more.',
    status: 204,
    errors: ['NOT_FOUND'],
  },
  rotateSecretKey: {
    method: 'POST',
    path: '/v1/secret-key/rotation',
    scope: 'admin',
    summary: 'Encrypt all secrets with a new key and forget the old one.',
    status: 200,
    response: z.object({ rotated: z.number().int() }),
    errors: [],
  },
  whoAmI: {
    method: 'GET',
    path: '/v1/whoami',
    scope: 'read',
    bound: 'sorted',
    summary: 'The token that this request shows: its name and scopes.',
    status: 200,
    response: TokenRecord,
    errors: [],
  },
  createToken: {
    method: 'POST',
    path: '/v1/tokens',
    scope: 'admin',
    summary: 'Create a token. The answer is the only place where the token itself is ever shown.',
    body: TokenRequest,
    status: 201,
    response: z.object({ token: z.string(), record: TokenRecord }),
    errors: ['CONFLICT'],
  },
  listTokens: {
    method: 'GET',
    path: '/v1/tokens',
    scope: 'admin',
    summary: 'All tokens, without the tokens themselves.',
    status: 200,
    response: z.object({ tokens: z.array(TokenRecord) }),
    errors: [],
  },
  revokeToken: {
    method: 'DELETE',
    path: '/v1/tokens/:id',
    scope: 'admin',
    summary: 'Revoke a token.',
    status: 204,
    errors: ['NOT_FOUND', 'CONFLICT'],
  },
  ...EVENT_ROUTES,
  readHealth: {
    method: 'GET',
    path: '/healthz',
    scope: 'public',
    summary: 'Whether this process is alive. Says nothing about what it stands on.',
    status: 200,
    response: z.object({ ok: z.literal(true) }),
    errors: [],
  },
  readReadiness: {
    method: 'GET',
    path: '/readyz',
    scope: 'public',
    summary:
      'Whether functions can be deployed and invoked now, with a reason for what is not ready (then 503).',
    status: 200,
    response: Readiness,
    errors: [],
  },
  readOpenApi: {
    method: 'GET',
    path: '/openapi.json',
    scope: 'public',
    summary: 'This description.',
    status: 200,
    response: z.looseObject({ openapi: z.string() }),
    errors: [],
  },
  readMetrics: {
    method: 'GET',
    path: '/metrics',
    scope: 'read',
    summary: 'Metrics of this gateway in the Prometheus text format.',
    status: 200,
    response: z.string(),
    media: 'text',
    errors: [],
  },
} as const satisfies Record<string, RouteSpec>;

export type RouteId = keyof typeof ROUTES;
