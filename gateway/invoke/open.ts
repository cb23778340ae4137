/** Wires the invocation path of one gateway: routes that follow the catalog, links to runners, the invoker. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Redis } from 'ioredis';
import { createId } from '../../sdk/protocol/ids.ts';
import type { Catalog } from '../../infra/catalog/catalog.ts';
import { subscribeChanges } from '../../infra/catalog/changes.ts';
import { Dispatcher } from '../../infra/dispatch/dispatcher.ts';
import type { Log } from '../../infra/lib/log.ts';
import { openBlockingRedis, openRedis, type RedisUrls } from '../../infra/lib/redis.ts';
import { Invoker, type InvokerOptions } from './invoker.ts';
import { Links } from './links.ts';
import { Routes } from './routes.ts';

export interface InvocationOptions {
  readonly urls: RedisUrls;
  readonly catalog: Catalog;
  readonly log: Log;
  readonly isTracing: boolean;
  /** Borrow slots of hot functions; off: every call goes through the queue. */
  readonly leases: boolean;
  readonly authorize: InvokerOptions['authorize'];
  readonly onCall?: InvokerOptions['onCall'];
}

export interface Invocation {
  /** `request` listener for URLs that begin with /f/. */
  handle(request: IncomingMessage, response: ServerResponse): void;
  /** Calls that have no answer yet. */
  readonly inFlight: number;
  readonly runners: number;
  close(): Promise<void>;
}

export async function openInvocation(options: InvocationOptions): Promise<Invocation> {
  const { urls, catalog, log } = options;
  const gateway = createId('gw');
  const redis: Redis = openRedis(urls.fast);
  const subscriber = openBlockingRedis(urls.fast);
  const changes = openBlockingRedis(urls.durable);
  await Promise.all([redis.connect(), subscriber.connect(), changes.connect()]);
  const routes = new Routes((name) => catalog.resolveRoute(name));
  await subscribeChanges(
    changes,
    (change) => {
      if (change.kind === 'function' || change.kind === 'alias') routes.drop(change.name);
    },
    () => routes.dropAll(),
  );
  const invoker: Invoker = new Invoker({
    gateway,
    dispatcher: new Dispatcher(redis),
    routes,
    links: () => links,
    leases: options.leases,
    isTracing: options.isTracing,
    log,
    authorize: options.authorize,
    ...(options.onCall ? { onCall: options.onCall } : {}),
  });
  const links: Links = new Links({
    gateway,
    redis,
    subscriber,
    log,
    onFrame: (runner, frame) => invoker.onFrame(runner, frame),
    onGone: (runner) => invoker.onRunnerGone(runner),
  });
  await links.open();
  return {
    handle: (request, response) => invoker.handle(request, response),
    get inFlight() {
      return invoker.inFlight;
    },
    get runners() {
      return links.count;
    },
    async close() {
      await invoker.close();
      links.close();
      for (const one of [redis, subscriber, changes]) one.disconnect();
    },
  };
}
