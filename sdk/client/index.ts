/**
 * The typed client of a Skiff server, published as `skiff/client`.
 *
 * Owns: every request of the CLI and of programs. Invariant: no runtime dependency and nothing of one runtime only,
 * so it runs in Node, Bun, Deno and browsers; types come from sdk/protocol, values only from its plain constants.
 * Deliberately absent: packing of source folders (sdk/cli/source) and anything that reads files or the environment.
 *
 * ```ts
 * const skiff = createClient({ url: 'http://127.0.0.1:8080', token });
 * const response = await skiff.invoke('hello', { path: '/world' });
 * for await (const line of skiff.logs('hello', { follow: true })) show(line.message);
 * ```
 */
import { type Builds, createBuilds } from './builds.ts';
import { createDeploys, type Deploys } from './deploy.ts';
import { createEvents, type Events } from './events.ts';
import type { ClientResponse, FetchLike } from './fetch.ts';
import { createFunctions, type Functions } from './functions.ts';
import { createInvocations, type Invocations } from './invoke.ts';
import { createLogs, type Logs } from './logs.ts';
import { createPlatform, type Platform } from './platform.ts';
import { createSwarm, type Swarm } from './swarm/swarm.ts';
import { RETRY_DEFAULT, type RetryPolicy } from './retry.ts';
import { createSchedules, type Schedules } from './schedules.ts';
import { createTransport } from './transport.ts';

export interface ClientOptions<R extends ClientResponse = Response> {
  /** Base URL of the gateway. */
  readonly url: string;
  readonly token?: string | undefined;
  /** Default: the global `fetch`. Its responses are what `invoke` returns. */
  readonly fetch?: FetchLike<R>;
  readonly retry?: Partial<RetryPolicy>;
  /** Until the head of an answer, except for uploads, streams and invocations. Default 30,000. */
  readonly timeoutMs?: number;
}

export interface Client<R extends ClientResponse = Response>
  extends Functions, Builds, Deploys, Invocations<R>, Events<R>, Schedules, Logs, Platform, Swarm {
  readonly url: string;
}

const TIMEOUT_MS_DEFAULT = 30_000;

export function createClient<R extends ClientResponse = Response>(options: ClientOptions<R>): Client<R> {
  const transport = createTransport<R>({
    url: options.url,
    token: options.token,
    // The global fetch takes all that FetchInit has; its declared types do not know async iterables as bodies.
    fetch: options.fetch ?? (globalThis.fetch as unknown as FetchLike<R>),
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
    ...createInvocations(transport),
    ...createEvents(transport),
    ...createSchedules(transport),
    ...createLogs(transport),
    ...createPlatform(transport),
    ...createSwarm(transport),
  };
}

export { ClientError, type ClientErrorCode } from './error.ts';
export type { DeployOptions, Source, StartedDeploy, Upload } from './deploy.ts';
export type { ClientResponse, FetchInit, FetchLike } from './fetch.ts';
export type { AsyncInvokeOptions, DeadSelection, WaitOptions } from './events.ts';
export type { InvokeOptions } from './invoke.ts';
export type { LogOptions } from './logs.ts';
export type { CreatedToken, Readiness } from './platform.ts';
export type {
  AcceptedInvocation,
  Attempt,
  EventReceipt,
  EventRequest,
  InvocationRecord,
  InvocationState,
} from '../protocol/events.ts';
export type { Schedule, ScheduleRequest } from '../protocol/schedules.ts';
export type {
  Alias,
  BuildEvent,
  BuildRecord,
  Deployment,
  DeployResult,
  FunctionRecord,
  LogLine,
  NodeRecord,
  SecretRecord,
  TokenRecord,
  Usage,
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
  ServiceUpdate,
  SwarmInfo,
} from '../protocol/swarm/resources.ts';
