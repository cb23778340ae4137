/**
 * The process that runs events: a consumer of the shard queues and a pump, on the same dispatch path as the gateway's.
 * A process of its own, so that the gateway's event loop carries nothing but calls, and so that locks and leases are
 * renewed on time whatever the gateway does. Any number of them may run, on any hosts.
 */
import { openCatalog } from '../../infra/catalog/catalog.ts';
import { subscribeChanges } from '../../infra/catalog/changes.ts';
import { dataPaths } from '../../infra/contract/paths.ts';
import { Dispatcher } from '../../infra/dispatch/dispatcher.ts';
import { StepStore } from '../../infra/events/steps.ts';
import type { ShardQueues } from '../../infra/events/shards.ts';
import { EventStore } from '../../infra/events/store.ts';
import { followLayout } from '../../infra/lib/layout.ts';
import { createLog } from '../../infra/lib/log.ts';
import { cellsOf, openBlockingRedis, openRedis, openSubscriber, redisUrls } from '../../infra/lib/redis.ts';
import { Shutdown } from '../../infra/lib/shutdown.ts';
import { startTelemetry } from '../../infra/lib/telemetry.ts';
import { openRegistry } from '../../infra/oci/registry.ts';
import { tryRegistryTls } from '../../infra/swarm/identity.ts';
import { openSecretStore } from '../../infra/secrets/secrets.ts';
import { FrameType } from '../../sdk/protocol/frame.ts';
import { createId } from '../../sdk/protocol/ids.ts';
import { ChannelEntrance } from '../channel/entrance.ts';
import { Invoker } from '../invoke/invoker.ts';
import { Links } from '../invoke/links.ts';
import { Routes } from '../invoke/routes.ts';
import { Versions } from '../invoke/versions.ts';
import { loadEventsConfig } from './config.ts';
import { Consumer } from './consume/consumer.ts';
import { Pump } from './consume/pump.ts';
import { openEvents } from './open.ts';
import { describeGroup } from './outbox/ended-group.ts';
import { openEndedQueues } from './outbox/ended-queue.ts';
import { Outbox } from './outbox/outbox.ts';
import { parseOpened } from './outbox/webhook-address.ts';
import { openWebhookSender } from './outbox/webhook.ts';
import { Scheduler } from './schedule/scheduler.ts';
import { StepService } from './steps/step-service.ts';
import { CallHistory, rememberCall } from '../swarm/call-history.ts';
import { CallPeers } from '../swarm/call-peers.ts';
import { createRouteResolver } from '../swarm/service/routes.ts';
import { openServices } from '../../infra/swarm/services.ts';

/** How long attempts may take to end once we stop; the supervisor waits longer. */
const DRAIN_MS = 10_000;

const config = loadEventsConfig(process.env);
if (process.argv.includes('--print-config')) {
  process.stdout.write(`${JSON.stringify(config, null, 2)}\n`);
  process.exit(0);
}
const log = createLog('events', config.SKIFF_LOG_LEVEL);
const shutdown = new Shutdown(log, DRAIN_MS + 4_000);
shutdown.onSignals(process);
process.on('unhandledRejection', (error) => log.error({ error }, 'unhandled rejection'));
const telemetry = await startTelemetry('events', process.env);
shutdown.add('telemetry', () => telemetry.shutdown());

const paths = dataPaths(config.SKIFF_DATA_DIR);
const urls = redisUrls(config);
const durable = openRedis(urls.durable);
const fast = openRedis(urls.fast);
const storeRedis = openRedis(urls.durable);
const workerRedis = openBlockingRedis(urls.durable);
const changesRedis = openSubscriber(urls.durable);
const cancelsRedis = openSubscriber(urls.durable);
const runnersRedis = openSubscriber(urls.fast);
const connections = [durable, fast, storeRedis, workerRedis, changesRedis, cancelsRedis, runnersRedis];
shutdown.add('redis', () => {
  for (const one of connections) one.disconnect();
});
await Promise.allSettled(connections.map((one) => one.connect()));
shutdown.add(
  'layout',
  followLayout(durable, (problem) => shutdown.fail(problem)),
);

const registry = openRegistry({
  url: config.SKIFF_REGISTRY_URL ?? `http://127.0.0.1:${config.SKIFF_GATEWAY_PORT + 1}`,
  user: config.SKIFF_REGISTRY_USER,
  password: config.SKIFF_REGISTRY_PASSWORD?.reveal(),
  tls: tryRegistryTls(config),
});
shutdown.add('registry', () => registry.close());

const catalog = openCatalog(durable);
const routes = new Routes(createRouteResolver(catalog, openServices(durable), fast));
void subscribeChanges(
  changesRedis,
  ({ kind, name }) => {
    if (kind === 'function' || kind === 'alias' || kind === 'service') routes.drop(name);
  },
  () => routes.dropAll(),
).catch((error: unknown) => log.error({ error }, 'changes cannot be followed'));

const id = createId('gw');
const links: Links = new Links({
  gateway: id,
  runDir: paths.run,
  identityDir: paths.swarm,
  redis: fast,
  subscriber: runnersRedis,
  log,
  onFrame: (runner, frame) =>
    frame.type >= FrameType.CALL ? channel.onFrame(runner, frame) : invoker.onFrame(runner, frame),
  onGone(runner) {
    invoker.onRunnerGone(runner);
    channel.onRunnerGone(runner);
  },
  onReady: () => invoker.onLinkReady(),
});
const dispatcher = new Dispatcher(fast);
shutdown.add('clock', dispatcher.clock.follow());
const invoker: Invoker = new Invoker({
  gateway: id,
  dispatcher,
  routes,
  links: () => links,
  leases: true,
  isTracing: telemetry.isOn,
  log,
  // Whether an event may call its function was decided when it was accepted.
  authorize: () => Promise.resolve(),
  onCall: (call, cause) => history.add(rememberCall(call, cause)),
});
const history = new CallHistory();
const peers = new CallPeers({ id, history, redis: fast, subscriber: runnersRedis });
void peers.open().catch((error: unknown) => log.error({ error }, 'questions about calls cannot be answered'));
const channel = new ChannelEntrance({
  routes,
  run: (call) => invoker.run(call),
  send: (runner, type, stream, payload) => links.get(runner)?.send(type, stream, payload),
  steps: (invocation, body, traceparent) =>
    (cells[cellsOf(storeRedis).ofId(invocation).index] as (typeof cells)[number]).steps.answer(
      invocation,
      body,
      traceparent,
    ),
  log,
});
shutdown.add('links', () => links.close());
shutdown.add('invoker', () => invoker.close());

const versions = new Versions(catalog);
const events = await openEvents({
  durableUrl: urls.durable,
  durability: config.SKIFF_EVENTS_DURABILITY,
  epochFile: paths.durableEpoch,
  registry,
  routes,
  versions,
  log,
});
shutdown.add('event connections', () => events.close());
const cells = cellsOf(storeRedis).all.map((cell) => {
  const store = new EventStore(storeRedis, cell);
  const queues = events.queues.each[cell.index] as ShardQueues;
  const steps = new StepService({
    steps: new StepStore(storeRedis, cell),
    held: (invocation) => consumer.held(invocation),
    bytesMax: () => events.acceptor.bytesMax,
  });
  const consumer: Consumer = new Consumer({
    id,
    cell,
    store,
    queues,
    payloads: events.payloads,
    routes,
    versions,
    run: (call) => invoker.run(call),
    describeGroup: (ids) => describeGroup(events.store, ids),
    isLinked: (runner) => links.get(runner) !== undefined,
    connection: workerRedis,
    subscriber: cancelsRedis,
    concurrency: config.SKIFF_EVENTS_CONCURRENCY,
    namespaceMax: config.SKIFF_EVENTS_NAMESPACE_MAX,
    log,
  });
  const others = cell.of > 1 ? { others: { store: events.store, queues: events.queues } } : {};
  return {
    store,
    steps,
    consumer,
    pump: new Pump({ store, queues, payloads: events.payloads, ...others, log }),
  };
});
// The first attempts would only find that there is no runner.
await links.open().catch((error: unknown) => log.error({ error }, 'runners cannot be followed'));
await Promise.all(cells.map(({ consumer }) => consumer.open()));
for (const { pump } of cells) pump.open();
const schedulers = events.schedules.each.map((store) => new Scheduler({ ...events, id, store, log }));
for (const scheduler of schedulers) scheduler.open();
const webhooks = openWebhookSender(parseOpened(config.SKIFF_EGRESS_INTERNAL));
const queued = openEndedQueues(storeRedis, (error) => log.debug({ error }, 'destination queues'));
const secrets = openSecretStore(durable, paths.secretKey);
const outboxes = cells.map(({ store }) => new Outbox({ ...events, store, webhooks, queued, secrets, log }));
for (const outbox of outboxes) outbox.open();
shutdown.add('webhooks', () => webhooks.close());
shutdown.add('destination queues', () => queued.close());
shutdown.add('outbox', () => closeAll(outboxes));
shutdown.add('scheduler', () => closeAll(schedulers));
shutdown.add('pump', () => closeAll(cells.map(({ pump }) => pump)));
shutdown.add('consumer', async () => {
  await Promise.all(cells.map(({ consumer }) => consumer.close(DRAIN_MS)));
});
log.info({ id, concurrency: config.SKIFF_EVENTS_CONCURRENCY }, 'events ready');

async function closeAll(all: readonly { close(): Promise<void> }[]): Promise<void> {
  await Promise.all(all.map((one) => one.close()));
}
