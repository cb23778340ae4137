/**
 * The gateway's process: wires Redis, the registry, the control API and the invoker together and listens.
 * It starts, and stays up, without Redis or registry: /healthz answers, /readyz says what is missing, and all comes
 * back by itself when they do.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { IncomingMessage, Server } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { openCatalog } from '../infra/catalog/catalog.ts';
import { type Change, subscribeChanges } from '../infra/catalog/changes.ts';
import { dataPaths } from '../infra/contract/paths.ts';
import { Dispatcher, GATHERED_SCRIPTS } from '../infra/dispatch/dispatcher.ts';
import { followLayout } from '../infra/lib/layout.ts';
import { createLog } from '../infra/lib/log.ts';
import { Metrics } from '../infra/lib/metrics.ts';
import { openRedis, openSubscriber, redisUrls } from '../infra/lib/redis.ts';
import { Shutdown } from '../infra/lib/shutdown.ts';
import { startTelemetry } from '../infra/lib/telemetry.ts';
import { openRegistry } from '../infra/oci/registry.ts';
import { createExternalRegistries } from '../infra/oci/external-registry.ts';
import { openRegistryLogins } from '../infra/secrets/registry-logins.ts';
import { openSecretStore } from '../infra/secrets/secrets.ts';
import { tryRegistryTls } from '../infra/swarm/identity.ts';
import type { SwarmRecord } from '../infra/swarm/members.ts';
import { FrameType } from '../sdk/protocol/frame.ts';
import { createId } from '../sdk/protocol/ids.ts';
import { ensureAdminTokenFile, storeAdminToken } from './admin-token.ts';
import { createApp } from './app.ts';
import { openBuildQueue } from './build-queue.ts';
import { ChannelEntrance } from './channel/entrance.ts';
import { loadGatewayConfig, publicUrlOf } from './config.ts';
import { IdempotencyRecords } from '../infra/events/idempotency.ts';
import { HttpEntrance } from './events/accept/http-entrance.ts';
import { openEvents } from './events/open.ts';
import { writeResult } from './events/routes/result.ts';
import { Edge } from './edge/edge.ts';
import { createHttpServer } from './http-server.ts';
import { addDashboardRedirect, createDashboardApp, listenForDashboard } from './dashboard/dashboard.ts';
import { createCallReporter } from './invocation-metrics.ts';
import { IdempotentCalls } from './idempotency/idempotent-calls.ts';
import { Invoker } from './invoke/invoker.ts';
import { Links } from './invoke/links.ts';
import { Routes } from './invoke/routes.ts';
import { Versions } from './invoke/versions.ts';
import { authorize, createTokenVerifier } from './middleware/auth.ts';
import { rememberCall } from './swarm/call-history.ts';
import { ReleaseWatch } from './releases/release-watch.ts';
import { type GatewaySwarm, openGatewaySwarm } from './swarm/gateway-swarm.ts';
import { CallWindow } from './stats/call-window.ts';
import { listDeployments, Stats } from './stats/stats.ts';

/** How long invocations may take to end once we stop; the supervisor waits longer. */
const DRAIN_MS = 10_000;
const SWEEP_MS = 50;
const STORE_MS_MAX = 2_000;

const config = loadGatewayConfig(process.env);
if (process.argv.includes('--print-config')) {
  process.stdout.write(`${JSON.stringify(config, null, 2)}\n`);
  process.exit(0);
}
const log = createLog('gateway', config.SKIFF_LOG_LEVEL);
const shutdown = new Shutdown(log, DRAIN_MS + 2_000);
shutdown.onSignals(process);
process.on('unhandledRejection', (error) => log.error({ error }, 'unhandled rejection'));
const telemetry = await startTelemetry('gateway', process.env);
shutdown.add('telemetry', () => telemetry.shutdown());

const stopping = new AbortController();
const paths = dataPaths(config.SKIFF_DATA_DIR);
const adminToken = await ensureAdminTokenFile(paths.adminToken);
const urls = redisUrls(config);
const durable = openRedis(urls.durable);
// Dispatches of one turn share a write: a fifth less work for Redis under load, measured.
const fast = openRedis(urls.fast, {
  enableAutoPipelining: true,
  autoPipeliningIgnoredCommands: [...GATHERED_SCRIPTS],
});
const queueRedis = openRedis(urls.durable);
const changesRedis = openSubscriber(urls.durable);
const runnersRedis = openSubscriber(urls.fast);
const connections = [durable, fast, queueRedis, changesRedis, runnersRedis];
shutdown.add('redis', () => {
  for (const one of connections) one.disconnect();
});
// A store that is away is tried again for ever; until then requests that need it are answered with 503.
await Promise.allSettled(connections.map((one) => one.connect()));
shutdown.add(
  'layout',
  followLayout(durable, (problem) => shutdown.fail(problem)),
);

const registryUrl = config.SKIFF_REGISTRY_URL ?? `http://127.0.0.1:${config.SKIFF_GATEWAY_PORT + 1}`;
const registry = openRegistry({
  url: registryUrl,
  user: config.SKIFF_REGISTRY_USER,
  password: config.SKIFF_REGISTRY_PASSWORD?.reveal(),
  tls: tryRegistryTls(config),
});
shutdown.add('registry', () => registry.close());

const catalog = openCatalog(durable);
const id = createId('gw');
const version = readVersion();
const dispatcher = new Dispatcher(fast);
shutdown.add('clock', dispatcher.clock.follow());
const swarm: GatewaySwarm = openGatewaySwarm({
  clock: dispatcher.clock,
  gateway: id,
  dataDir: config.SKIFF_DATA_DIR,
  identityDir: paths.swarm,
  runDir: paths.run,
  port: config.SKIFF_SWARM_PORT,
  version,
  catalog,
  durable,
  fast,
  subscriber: runnersRedis,
  external: externalBackbone(),
  registry: {
    url: registryUrl,
    user: config.SKIFF_REGISTRY_USER,
    password: config.SKIFF_REGISTRY_PASSWORD?.reveal(),
  },
  log,
});
const tokens = createTokenVerifier(catalog);
const routes = new Routes((name) => swarm.resolveRoute(name));
void subscribeChanges(changesRedis, onChange, onGap).catch((error: unknown) =>
  log.error({ error }, 'changes cannot be followed'),
);
const builds = openBuildQueue(queueRedis, (error) => log.debug({ error }, 'build queue'));
shutdown.add('build queue', () => builds.close());

const authorizeCall = async (request: IncomingMessage, functionName: string): Promise<void> => {
  await authorize(tokens.verify, request.headers.authorization, 'invoke', { functionName });
};
const versions = new Versions(catalog);
const events = await openEvents({
  durableUrl: urls.durable,
  durability: config.SKIFF_EVENTS_DURABILITY,
  epochFile: dataPaths(config.SKIFF_DATA_DIR).durableEpoch,
  registry,
  routes,
  versions,
  log,
});
shutdown.add('events', () => events.close());
const entrance = new HttpEntrance({
  ...events,
  writeResult: (id, response) => writeResult(events, id, response),
  authorize: authorizeCall,
  log,
});

const metrics = new Metrics();
void swarm.open().catch((error: unknown) => log.error({ error }, 'the swarm port could not be opened'));
shutdown.add('swarm', () => swarm.close());
const callWindow = new CallWindow();
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
    swarm.parts.reconcileSoon();
    invoker.onRunnerGone(runner);
    channel.onRunnerGone(runner);
  },
  onReady: () => invoker.onLinkReady(),
});
const reportCall = createCallReporter(metrics, () => invoker.inFlight);
const releases = new ReleaseWatch({ store: catalog, getRoute: (name) => catalog.resolveRoute(name), log });
const invoker: Invoker = new Invoker({
  gateway: id,
  dispatcher,
  routes,
  versions,
  links: () => links,
  leases: config.SKIFF_LEASES,
  isTracing: telemetry.isOn,
  log,
  authorize: authorizeCall,
  accept: (request, response, target) =>
    entrance.tryAccept(request, response, target) || idempotent.tryCall(request, response, target),
  onCall(call, cause) {
    reportCall(call, cause);
    callWindow.report(call, cause);
    releases.note(call.deployment, cause, call.response.statusCode);
    swarm.history.add(rememberCall(call, cause));
  },
});
const idempotent = new IdempotentCalls({
  ...events,
  records: new IdempotencyRecords(durable),
  run: (call) => invoker.run(call),
  authorize: authorizeCall,
  log,
});
void links.open().catch((error: unknown) => log.error({ error }, 'runners cannot be followed'));
const channel = new ChannelEntrance({
  routes,
  run: (call) => invoker.run(call),
  send: (runner, type, stream, payload) => links.get(runner)?.send(type, stream, payload),
  log,
});
shutdown.add('links', () => links.close());
shutdown.add('invoker', () => invoker.close());

const stats = new Stats({
  gateway: id,
  redis: fast,
  window: callWindow,
  readInFlight: () => invoker.inFlight,
  listDeployments: () => listDeployments(catalog),
  log,
});
stats.start();
shutdown.add('statistics', () => stats.stop());

const edge = new Edge({
  callsPerSecond: config.SKIFF_RATE_LIMIT_RPS,
  apiPerSecond: config.SKIFF_API_RATE_LIMIT_RPS,
  isKnown: tokens.isKnown,
});
const registryLogins = openRegistryLogins(durable, dataPaths(config.SKIFF_DATA_DIR).secretKey);
let dashboardPort: number | undefined;
const app = createApp({
  catalog,
  durable,
  fast,
  registry,
  registryDir: dataPaths(config.SKIFF_DATA_DIR).registryData,
  secrets: openSecretStore(durable, dataPaths(config.SKIFF_DATA_DIR).secretKey),
  logins: {
    store: registryLogins,
    check: createExternalRegistries({
      logins: {},
      findLogin: registryLogins.tryFind,
      certificates: config.SKIFF_REGISTRY_CA,
    }).check,
  },
  builds,
  events,
  verifyToken: tokens.verify,
  dropTokens: tokens.drop,
  metrics,
  stats,
  swarm: swarm.parts,
  log,
  publicUrl: publicUrlOf(config),
  version,
  stopping: stopping.signal,
});
addDashboardRedirect(app, () => dashboardPort);
const server = createHttpServer({
  edge,
  invoke: (request, response) => invoker.handle(request, response),
  app,
});
const dashboard = createHttpServer({ edge, app: createDashboardApp(app, log) });
// First, so that whoever waits for the port can use the token; but never for long, as Redis may be away.
await Promise.race([storeAdminToken(catalog, adminToken, log, stopping.signal), delay(STORE_MS_MAX)]);
server.listen({ host: config.SKIFF_GATEWAY_HOST, port: config.SKIFF_GATEWAY_PORT });
await once(server, 'listening');
if (config.SKIFF_DASHBOARD_PORT !== 0) {
  const port = config.SKIFF_DASHBOARD_PORT ?? Math.min(config.SKIFF_GATEWAY_PORT + 2, 65_535);
  const isGiven = config.SKIFF_DASHBOARD_PORT !== undefined;
  dashboardPort = await listenForDashboard(
    dashboard,
    { host: config.SKIFF_GATEWAY_HOST, port, isGiven },
    log,
  );
}
shutdown.add('dashboard', () => stopServing(dashboard));
shutdown.add('http server', () => stopServing(server));
log.info({ id, version, url: publicUrlOf(config) }, 'gateway ready');

/** Streams end at once, invocations may end in their own time until DRAIN_MS. */
async function stopServing(one: Server): Promise<void> {
  stopping.abort();
  if (!one.listening) return;
  const closed = once(one, 'close');
  one.close();
  // `close` only ends connections that are idle now; the others become idle one by one.
  const sweep = setInterval(() => one.closeIdleConnections(), SWEEP_MS);
  const limit = setTimeout(() => one.closeAllConnections(), DRAIN_MS);
  await closed;
  clearInterval(sweep);
  clearTimeout(limit);
}

function onChange(change: Change): void {
  if (change.kind === 'tokens') tokens.drop();
  if (change.kind === 'function' || change.kind === 'alias' || change.kind === 'service')
    routes.drop(change.name);
  swarm.onChange(change);
}

/** After a connection (again): nothing cached can be trusted, and the store may be a fresh one. */
function onGap(): void {
  tokens.drop();
  routes.dropAll();
  void storeAdminToken(catalog, adminToken, log, stopping.signal);
}

/** Stores on this host are opened to a swarm by us; others are reached as they are, by all nodes. */
function externalBackbone(): SwarmRecord['backbone'] | undefined {
  if (config.SKIFF_REDIS_URL === undefined) return undefined;
  return { durable: urls.durable, fast: urls.fast, registry: registryUrl };
}

function readVersion(): string {
  const file = new URL('../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
