/**
 * The runner's process: wires Redis, the registry, the sandbox host and the pool together.
 * Order matters: what a dead predecessor left is reaped before this runner says that it lives.
 */
import { createHash, randomBytes } from 'node:crypto';
import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { openCatalog } from '../infra/catalog/catalog.ts';
import { type Change, subscribeChanges } from '../infra/catalog/changes.ts';
import { dataPaths } from '../infra/contract/paths.ts';
import { Dispatcher, GATHERED_SCRIPTS } from '../infra/dispatch/dispatcher.ts';
import { followLayout } from '../infra/lib/layout.ts';
import { createLog } from '../infra/lib/log.ts';
import { cellsOf, openBlockingRedis, openRedis, openSubscriber, redisUrls } from '../infra/lib/redis.ts';
import { Shutdown } from '../infra/lib/shutdown.ts';
import { startTelemetry } from '../infra/lib/telemetry.ts';
import { openRegistry } from '../infra/oci/registry.ts';
import { openStore } from '../infra/oci/store.ts';
import { openSecretStore } from '../infra/secrets/secrets.ts';
import type { Deployment } from '../sdk/protocol/api.ts';
import { resolveName } from '../sdk/protocol/reach/namespaces.ts';
import { openSandboxHost } from '../infra/sandbox/host.ts';
import { openMembers } from '../infra/swarm/members.ts';
import { openVolumes } from '../infra/swarm/volumes.ts';
import { tryRegistryTls } from '../infra/swarm/identity.ts';
import { CodeCaches } from './code-cache/code-caches.ts';
import { loadRunnerConfig } from './config.ts';
import { Intake } from './invoke/intake.ts';
import { Links } from './invoke/links.ts';
import { FunctionLog } from './log/function-log.ts';
import { describeDenial } from '../infra/network/denials.ts';
import { withEgress } from '../infra/network/egress-host.ts';
import { Networks } from '../infra/network/networks.ts';
import { Current } from './pool/current.ts';
import type { Instance } from './pool/instance.ts';
import { NamespaceQuota } from './pool/namespace-quota.ts';
import { GuestSandbox } from './pool/guest-sandbox.ts';
import { Pool } from './pool/pool.ts';
import { withRuntimeClasses } from './pool/runtime-hosts.ts';
import { Stems } from './pool/stems.ts';
import { Replicas } from './service/replicas.ts';
import { LinkServer } from './swarm/link-server.ts';
import { PeerServer } from './swarm/peers/peer-server.ts';
import { Peers } from './swarm/peers/peers.ts';
import { describeSharing } from './swarm/peers/sharing.ts';
import { UploadPace } from './swarm/peers/upload-pace.ts';
import { Prefetch } from './swarm/prefetch.ts';
import { Probe } from './swarm/readiness/probe.ts';
import { Readiness } from './swarm/readiness/readiness.ts';
import { Standing } from './swarm/standing.ts';
import { WorkerUpkeep } from './swarm/upkeep.ts';
import { NodeVolumes } from './volume/volumes.ts';
import { Worker } from './worker.ts';

const VERSION = '0.1.0';
const DRAIN_MS = 8_000;
/** Shared by all runners of this host: who has taken which uids and addresses. */
const RUN_DIR = '/run/skiff';

const config = loadRunnerConfig(process.env);
if (process.argv.includes('--print-config')) {
  process.stdout.write(`${JSON.stringify(config, null, 2)}\n`);
  process.exit(0);
}
const log = createLog('runner', config.SKIFF_LOG_LEVEL);
const shutdown = new Shutdown(log, DRAIN_MS + 4_000);
shutdown.onSignals(process);
process.on('unhandledRejection', (error) => log.error({ error }, 'unhandled rejection'));

const paths = dataPaths(config.SKIFF_DATA_DIR);
await mkdir(paths.sandboxes, { recursive: true, mode: 0o711 });
await mkdir(paths.run, { recursive: true, mode: 0o700 });
const id = config.SKIFF_RUNNER_ID ?? (await readOrMakeId(join(paths.runner, 'id')));

const telemetry = await startTelemetry('runner', process.env);
shutdown.add('telemetry', () => telemetry.shutdown());
const urls = redisUrls(config);
const durableRedis = openRedis(urls.durable);
const redis = openRedis(urls.fast, {
  enableAutoPipelining: true,
  autoPipeliningIgnoredCommands: [...GATHERED_SCRIPTS],
});
const cells = cellsOf(redis);
const inboxRedis = cells.all.map(() => openBlockingRedis(urls.fast));
const demandRedis = cells.all.map(() => openBlockingRedis(urls.fast));
const changesRedis = openSubscriber(urls.durable);
const connections = [durableRedis, redis, ...inboxRedis, ...demandRedis, changesRedis];
await Promise.all(connections.map((one) => one.connect()));
shutdown.add('redis', () => {
  for (const one of connections) one.disconnect();
});
shutdown.add(
  'layout',
  followLayout(durableRedis, (problem) => shutdown.fail(problem)),
);

const registry = openRegistry({
  url: config.SKIFF_REGISTRY_URL ?? 'http://127.0.0.1:8081',
  ...(config.SKIFF_REGISTRY_USER ? { user: config.SKIFF_REGISTRY_USER } : {}),
  ...(config.SKIFF_REGISTRY_PASSWORD ? { password: config.SKIFF_REGISTRY_PASSWORD.reveal() } : {}),
  tls: tryRegistryTls(config),
});
const peers = new Peers({
  id,
  identityDir: paths.swarm,
  redis,
  isOn: () => config.SKIFF_PEERS && linkServer.node !== undefined,
  nodes: () => standing.known,
  log,
});
shutdown.add('peers', () => peers.close());
const store = await openStore({
  dir: paths.store,
  registry,
  bytesMax: config.SKIFF_RUNNER_STORE_BYTES_MAX,
  peers,
});
const hash = createHash('sha256').update(config.SKIFF_DATA_DIR).digest('hex').slice(0, 8);
const functionLog = new FunctionLog(redis);
shutdown.add('function logs', () => functionLog.flush());
const networks = new Networks<Deployment>({
  hash,
  stateDir: join(paths.runner, 'network'),
  runDir: RUN_DIR,
  dns: config.SKIFF_EGRESS_DNS,
  devices: config.SKIFF_EGRESS_DEVICES,
  opened: config.SKIFF_EGRESS_INTERNAL,
  log,
  onDenied: (deployment, denial) => functionLog.write(deployment, describeDenial(denial)),
});
shutdown.add('networks', () => networks.close());
const openHost = (runtime: string, stateDir: string, cgroupParent: string) =>
  openSandboxHost({
    stateDir,
    cgroupParent,
    runtime,
    uidBase: config.SKIFF_RUNNER_UID_BASE,
    memoryBytesMax: config.SKIFF_RUNNER_MEMORY_BYTES,
    log,
  });
const stateDirOf = (runtimeClass: string): string => join(paths.runner, `state-${runtimeClass}`);
const hosts = withRuntimeClasses({
  host: await openHost(config.SKIFF_RUNTIME, join(paths.runner, 'state'), `skiff-${hash}`),
  runtime: config.SKIFF_RUNTIME,
  classes: config.SKIFF_RUNTIME_CLASSES,
  stateDirOf,
  open: (name, program) => openHost(program, stateDirOf(name), `skiff-${name}-${hash}`),
});
const host = withEgress(hosts, networks);
shutdown.add('sandbox host', () => host.close());
const reaped = { ...(await host.reap()), networks: await networks.reap() };
await rm(paths.sandboxes, { recursive: true, force: true });
await mkdir(paths.sandboxes, { recursive: true, mode: 0o711 });
log.info({ ...reaped, id }, 'runner starts');

const catalog = openCatalog(durableRedis);
const dispatcher = new Dispatcher(redis);
shutdown.add('clock', dispatcher.clock.follow());
const current = new Current(catalog);
const members = openMembers(durableRedis);
const peerServer: PeerServer = new PeerServer({
  store,
  pace: new UploadPace(config.SKIFF_PEERS_BYTES_PER_SECOND),
  isMember: (nodeId) => linkServer.isMember(nodeId),
  log,
});
const linkServer: LinkServer = new LinkServer({
  identityDir: paths.swarm,
  host: config.SKIFF_RUNNER_LINK_HOST,
  links: { accept: (socket) => links.accept(socket) },
  peers: peerServer,
  members,
  log,
});
await subscribeChanges(changesRedis, onChange, () => current.onGap());

const stems = new Stems({
  launch: (spec, background) => GuestSandbox.start(host, spec, paths.sandboxes, background),
  hasRoom: (bytes) => pool.usedBytes + bytes <= pool.memoryBytesMax,
  log,
  onFailed: () => readiness.suspect(),
});
const tokensOf = (instance: Instance): string[] => instance.slots.map((slot) => instance.token(slot));
// When Redis is away the tokens die with this runner's epoch, or are refused one by one.
const withdraw = (instance: Instance): void =>
  void dispatcher.remove(instance.deployment.id, instance.liveMember, tokensOf(instance)).catch(() => {});
const owner = {
  runner: id,
  epoch: (): string => worker.epoch,
  onDraining: withdraw,
  onGone: (instance: Instance): void => {
    pool.forget(instance);
    replicas.onGone(instance);
    withdraw(instance);
  },
};
const filesDir = join(paths.runner, 'files');
// In memory, so that no value of a secret is ever on a disk.
const secretsDir = join('/dev/shm', `skiff-${hash}`);
const scratchDir = join(paths.runner, 'scratch');
for (const dir of [filesDir, secretsDir, scratchDir]) await rm(dir, { recursive: true, force: true });
await mkdir(secretsDir, { recursive: true, mode: 0o700 });
shutdown.add('secrets of images', () => rm(secretsDir, { recursive: true, force: true }));
const volumes = new NodeVolumes({
  node: id,
  dir: paths.volumes,
  scratchDir,
  records: openVolumes(durableRedis),
  log,
});
const pool: Pool = new Pool({
  host,
  store,
  stems,
  log: functionLog,
  memoryBytesMax: config.SKIFF_RUNNER_MEMORY_BYTES,
  stemsPerBase: config.SKIFF_RUNNER_STEMS,
  owner,
  networks,
  codeCaches: config.SKIFF_CODE_CACHE ? new CodeCaches({ store, log }) : undefined,
  filesDir,
  secretsDir,
  volumes,
  secrets: openSecretStore(durableRedis, paths.secretKey),
  retract: (instance) => dispatcher.retract(instance.deployment.id, instance.liveMember, tokensOf(instance)),
});
const intake: Intake = new Intake({
  runner: id,
  epoch: () => worker.epoch,
  pool,
  links: () => links,
  dispatcher,
  functionLog,
  log,
  isTracing: telemetry.isOn,
  onServed: (isFirst) => readiness.noteServed(isFirst),
});
const links: Links = new Links({
  log,
  onRequest: (link, frame) => intake.onLeased(link, frame),
  onAsk: (link, frame) => intake.onAsk(link, frame),
});
const socketPath = join(paths.run, `link-${id}.sock`);
await rm(socketPath, { force: true });
const server = createServer({ noDelay: true });
links.serve(server);
await new Promise<void>((resolve, reject) => server.once('error', reject).listen(socketPath, resolve));
await chmod(socketPath, 0o600);
await linkServer.open();
const upkeep = new WorkerUpkeep({
  identityDir: paths.swarm,
  secretKeyFile: paths.secretKey,
  log,
  members,
  onRenewed: () => linkServer.open(),
});
shutdown.add('upkeep', () => upkeep.close());

const replicas = new Replicas(id, redis, dispatcher.clock);
const standing = new Standing({ id, labels: parseLabels(config.SKIFF_RUNNER_LABELS), members, redis });
const probe = new Probe({
  id,
  cells,
  redis,
  host,
  store,
  registry,
  pool,
  sandboxesDir: paths.sandboxes,
  dir: join(paths.runner, 'probe'),
});
const readiness: Readiness = new Readiness({
  probe,
  everyMs: config.SKIFF_RUNNER_PROBE_MS,
  log,
  onChange: () =>
    void worker.follow().catch((error: unknown) => log.warn({ error }, 'readiness was not told yet')),
});
const prefetch = new Prefetch({ id, catalog, store, standing, log });
const worker: Worker = new Worker({
  id,
  version: VERSION,
  link: `unix:${socketPath}`,
  swarm: () => {
    const { address, node } = linkServer;
    return address === undefined || !node ? undefined : { address, role: node.role };
  },
  memoryBytesMax: config.SKIFF_RUNNER_MEMORY_BYTES,
  redis,
  cells,
  inboxRedis,
  demandRedis,
  dispatcher,
  getDeployment: (deployment) => catalog.getDeployment(deployment),
  hasImage: ({ image }) =>
    image.layers.every((layer) => store.has('layer', layer.digest)) &&
    (!image.base || store.has('rootfs', image.base.digest)),
  standing,
  readiness,
  probe,
  replicas,
  current,
  pool,
  quota: new NamespaceQuota(redis, config.SKIFF_NAMESPACE_SANDBOXES_MAX),
  stems,
  store,
  sharing: () => describeSharing(peers, peerServer, store),
  volumes,
  links,
  intake,
  log,
});
await worker.open();
prefetch.all();
shutdown.add('links', () => {
  links.close();
  linkServer.close();
  server.close();
});
shutdown.add('work', () => worker.close(DRAIN_MS));
log.info({ id, link: socketPath }, 'runner ready');

function onChange(change: Change): void {
  current.onChange(change);
  // Sandboxes with the old value finish what they do and take no more.
  if (change.kind === 'secret') void onSecret(change.name);
  if (change.kind === 'alias') prefetch.one(change.name);
  if (change.kind === 'restart') pool.drainWhere(({ functionName }) => functionName === change.name);
  if (change.kind !== 'swarm' && change.kind !== 'node') return;
  const following =
    change.kind === 'swarm'
      ? linkServer.open()
      : Promise.all([linkServer.review(), change.name === id ? worker.follow() : undefined]);
  following.catch((error: unknown) => log.error({ error, change }, 'a change of the swarm was not followed'));
}

async function onSecret(name: string): Promise<void> {
  // Its key may be new as well.
  await upkeep.fetchKeys().catch((error: unknown) => log.warn({ error }, 'keys of secrets were not fetched'));
  pool.drainWhere(({ config, functionName }) =>
    config.secrets.some((secret) => resolveName(secret, functionName) === name),
  );
}

async function readOrMakeId(file: string): Promise<string> {
  const known = await readFile(file, 'utf8').catch(() => '');
  if (/^[a-z0-9-]{1,40}$/.test(known.trim())) return known.trim();
  const made = `node-${randomBytes(5).toString('hex')}`;
  await writeFile(file, `${made}\n`, { mode: 0o600 });
  return made;
}

/** `zone=a,disk=ssd`. */
function parseLabels(text: string): Record<string, string> {
  const pairs = text.split(',').filter((pair) => pair.includes('='));
  return Object.fromEntries(
    pairs.map((pair) => [pair.slice(0, pair.indexOf('=')).trim(), pair.slice(pair.indexOf('=') + 1).trim()]),
  );
}
