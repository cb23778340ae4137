/**
 * The typed client of a Skiff server, published as `skiff/client`.
 *
 * Owns: every request of the CLI and of programs. Invariant: no runtime dependency and nothing of one runtime only,
 * so it runs in Node, Bun, Deno and browsers; types come from sdk/protocol, values only from its plain constants.
 * Deliberately absent: packing of source folders (sdk/cli/source) and anything that reads files or the environment.
 *
 * ```ts
 * import { createClient } from 'skiff/client';
 * import type greet from './functions/greet.ts';
 *
 * const skiff = createClient({ url: 'http://127.0.0.1:8080', token });
 * const { text } = await skiff.invoke<typeof greet>('greet', { name: 'Ada' });
 * const response = await skiff.fetch('hello', { path: '/world' });
 * for await (const line of skiff.logs('hello', { follow: true })) show([response.status, text, line.message]);
 * ```
 */
import { type Builds, createBuilds } from './builds.ts';
import { createDeploys, type Deploys } from './deploy.ts';
import { createEvents, type Events } from './events.ts';
import type { ClientResponse, FetchInit, FetchLike } from './fetch.ts';
import { createFunctions, type Functions } from './functions.ts';
import { createInvocations, type Invocations } from './invoke.ts';
import { createLogs, type Logs } from './logs.ts';
import { createPlatform, type Platform } from './platform.ts';
import { createSwarm, type Swarm } from './swarm/swarm.ts';
import { RETRY_DEFAULT, type RetryPolicy } from './retry.ts';
import { createSchedules, type Schedules } from './schedules.ts';
import { createStats, type StatsReader } from './stats/stats.ts';
import { createTransport } from './transport.ts';

export interface ClientOptions<R extends ClientResponse = Response> {
  /** Base URL of the gateway. */
  readonly url: string;
  readonly token?: string | undefined;
  /** Default: the global `fetch`. Its responses are what `fetch` of the client returns. */
  readonly fetch?: FetchLike<R>;
  readonly retry?: Partial<RetryPolicy>;
  /** Until the head of an answer, except for uploads, streams and invocations. Default 30,000. */
  readonly timeoutMs?: number;
}

/** @typeParam Known functions by name, as `skiff types` writes them: `invoke` and `stream` then know their types. */
export interface Client<R extends ClientResponse = Response, Known = object>
  extends
    Functions,
    Builds,
    Deploys,
    Invocations<R, Known>,
    Events<R>,
    Schedules,
    Logs,
    Platform,
    StatsReader,
    Swarm {
  readonly url: string;
}

const TIMEOUT_MS_DEFAULT = 30_000;

/**
 * Browsers refuse their fetch as a method of another object. It takes all that FetchInit has; its declared types do not
 * know async iterables as bodies.
 */
const fetchGlobally = (url: string, init: FetchInit): Promise<Response> =>
  globalThis.fetch(url, init as RequestInit);

/**
 * A client of one server. Makes no request by itself, and holds no connection of its own.
 *
 * ```ts
 * import { createClient } from 'skiff/client';
 *
 * const skiff = createClient({ url: 'http://127.0.0.1:8080', token });
 * show(await skiff.list());
 * ```
 */
export function createClient<R extends ClientResponse = Response, Known = object>(
  options: ClientOptions<R>,
): Client<R, Known> {
  const transport = createTransport<R>({
    url: options.url,
    token: options.token,
    fetch: options.fetch ?? (fetchGlobally as unknown as FetchLike<R>),
    retry: { ...RETRY_DEFAULT, ...options.retry },
    timeoutMs: options.timeoutMs ?? TIMEOUT_MS_DEFAULT,
  });
  const functions = createFunctions(transport);
  const builds = createBuilds(transport);
  return {
    url: transport.url,
    ...functions,
    ...builds,
    ...createDeploys(transport, functions, builds),
    ...(createInvocations(transport) as Invocations<R, Known>),
    ...createEvents(transport),
    ...createSchedules(transport),
    ...createLogs(transport),
    ...createPlatform(transport),
    ...createStats(transport),
    ...createSwarm(transport),
  };
}

export { ClientError, type ClientErrorCode } from './error.ts';
export type { Builds } from './builds.ts';
export type { DeployOptions, Deploys, Source, StartedDeploy, Upload } from './deploy.ts';
export type { ByteStream, ClientResponse, FetchInit, FetchLike, RequestBody } from './fetch.ts';
export type { AliasTarget, CallOptions, Functions } from './functions.ts';
export type { AsyncInvokeOptions, DeadSelection, EventStats, Events, WaitOptions } from './events.ts';
export type { FetchOptions, Invocations, InvokeArguments, InvokeOptions } from './invoke.ts';
export type { RetryPolicy } from './retry.ts';
export type { LogOptions, Logs } from './logs.ts';
export type { CreatedToken, Platform, Readiness } from './platform.ts';
export type { Schedules } from './schedules.ts';
export type { Swarm } from './swarm/swarm.ts';
export type { ErrorCode, FailureCause, Fault, Problem } from '../protocol/errors.ts';
export type { InputOf, ItemOf, Json, JsonFunction, OutputOf } from '../protocol/typed/json-function.ts';
export type {
  AcceptedInvocation,
  Attempt,
  EventReceipt,
  EventRequest,
  InvocationRecord,
  InvocationState,
  InvocationStep,
} from '../protocol/events.ts';
export type { Schedule, ScheduleRequest } from '../protocol/workflow/schedules.ts';
export type {
  Alias,
  BuildEvent,
  BuildRecord,
  Deployment,
  DeployResult,
  FunctionRecord,
  LogLine,
  NodeRecord,
  RegistryLogin,
  SecretRecord,
  TokenRecord,
  Usage,
  FunctionStats,
  StatsSnapshot,
  Trace,
  TraceSpan,
} from '../protocol/api.ts';
export type {
  Explanation,
  JoinTokenView,
  NodeTask,
  NodeUpdate,
  Replica,
  Service,
  ServiceCreate,
  ServiceState,
  VolumeState,
  ServiceUpdate,
  SwarmInfo,
} from '../protocol/swarm/resources.ts';
