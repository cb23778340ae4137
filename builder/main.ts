/**
 * The builder's process: wires Redis, the registry, the bundler, the install sandboxes and the queue together.
 * Order matters: what a dead predecessor left is removed before the first job is taken, and jobs are taken before the
 * base image is ready, so that a first deploy waits inside its build, where it can say so.
 */
import { createHash } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openCatalog } from '../infra/catalog/catalog.ts';
import { subscribeChanges } from '../infra/catalog/changes.ts';
import { dataPaths } from '../infra/contract/paths.ts';
import { followLayout } from '../infra/lib/layout.ts';
import { createLog } from '../infra/lib/log.ts';
import { openBlockingRedis, openRedis, openSubscriber, redisUrls } from '../infra/lib/redis.ts';
import { Shutdown } from '../infra/lib/shutdown.ts';
import { startTelemetry } from '../infra/lib/telemetry.ts';
import { openRegistry } from '../infra/oci/registry.ts';
import { openStore } from '../infra/oci/store.ts';
import { openRegistryLogins } from '../infra/secrets/registry-logins.ts';
import { openSandboxHost } from '../infra/sandbox/host.ts';
import { describeDenial } from '../infra/network/denials.ts';
import { Networks } from '../infra/network/networks.ts';
import { tryRegistryTls } from '../infra/swarm/identity.ts';
import { toSkiffError } from '../sdk/protocol/errors.ts';
import {
  BUILDER_STORE_BYTES_MAX,
  COLLECT_MS,
  INSTALL_MEMORY_BYTES,
  INSTALLED_TREES_BYTES_MAX,
  TARBALL_CACHE_BYTES_MAX,
} from '../sdk/protocol/limits.ts';
import { Toolchain } from './base/toolchain.ts';
import { findProgram } from './base/npm-program.ts';
import { engineFolders, openBundlerEngine } from './bundle/engine.ts';
import type { BuildNetworkOwner } from './container/network.ts';
import { openContainerBuilder } from './container/container-builder.ts';
import { Collector, holdImage } from './collect/collector.ts';
import { loadBuilderConfig } from './config.ts';
import { DependencyStore } from './install/dependency-store.ts';
import { Installer } from './install/install.ts';
import { createExternalRegistries, parseLogins } from '../infra/oci/external-registry.ts';
import { findNpmFolder, readNpmSettings } from './install/npm/host.ts';
import { NpmMirror } from './install/npm/mirror.ts';
import { createNpmTool } from './install/npm/tool.ts';
import { findPip } from './install/pip/host.ts';
import { PipMirror } from './install/pip/mirror.ts';
import { createPipTool } from './install/pip/tool.ts';
import { TarballCache } from './install/tarball-cache.ts';
import { BaseImages } from './job/base-images.ts';
import { runBuild, type BuildParts } from './job/build.ts';
import { BuiltImage, InputIndex, RememberedConfig } from './job/input-index.ts';
import { Verifier } from './job/verify.ts';
import { BuildWorker } from './worker.ts';

const FIRST_RUNTIME = 'node:26';
const STEP_MS_MAX = 10_000;
/** Shared by all of this host: who has taken which addresses. */
const RUN_DIR = '/run/skiff';
const MODULES = fileURLToPath(new URL('../node_modules', import.meta.url));

const config = loadBuilderConfig(process.env);
if (process.argv.includes('--print-config')) {
  process.stdout.write(`${JSON.stringify(config, null, 2)}\n`);
  process.exit(0);
}
const log = createLog('builder', config.SKIFF_LOG_LEVEL);
const shutdown = new Shutdown(log, STEP_MS_MAX);
shutdown.onSignals(process);
process.on('unhandledRejection', (error) => log.error({ error }, 'unhandled rejection'));

const paths = dataPaths(config.SKIFF_DATA_DIR);
const bundlerRoot = join(paths.builder, 'bundler');
const folders = engineFolders(bundlerRoot);
await mkdir(paths.builder, { recursive: true, mode: 0o700 });
await mkdir(paths.run, { recursive: true, mode: 0o700 });

const telemetry = await startTelemetry('builder', process.env);
shutdown.add('telemetry', () => telemetry.shutdown());

const urls = redisUrls(config);
const durableRedis = openRedis(urls.durable);
const fastRedis = openRedis(urls.fast);
const queueRedis = openBlockingRedis(urls.durable);
const changesRedis = openSubscriber(urls.durable);
const connections = [durableRedis, fastRedis, queueRedis, changesRedis];
await Promise.all(connections.map((connection) => connection.connect()));
shutdown.add('redis', () => {
  for (const connection of connections) connection.disconnect();
});
shutdown.add(
  'layout',
  followLayout(durableRedis, (problem) => shutdown.fail(problem)),
);

const registry = openRegistry({
  url: config.SKIFF_REGISTRY_URL ?? 'http://127.0.0.1:8081',
  user: config.SKIFF_REGISTRY_USER,
  password: config.SKIFF_REGISTRY_PASSWORD?.reveal(),
  tls: tryRegistryTls(config),
});
shutdown.add('registry', () => registry.close());

// Only root can confine the bundler; an ordinary user's builder relies on the second fence, bundle/confine.ts.
const engine = await openBundlerEngine(process.getuid?.() === 0 ? bundlerRoot : undefined, process.env);
shutdown.add('bundler', () => engine.close());
await rm(folders.work, { recursive: true, force: true });
await mkdir(folders.work, { recursive: true, mode: 0o711 });
await engine.warm();

const host = await openSandboxHost({
  stateDir: join(paths.builder, 'sandboxes'),
  cgroupParent: `skiff-builder-${createHash('sha256').update(paths.root).digest('hex').slice(0, 8)}`,
  runtime: config.SKIFF_RUNTIME,
  uidBase: config.SKIFF_RUNNER_UID_BASE,
  memoryBytesMax: config.SKIFF_BUILDER_CONCURRENCY * INSTALL_MEMORY_BYTES,
  log,
});
shutdown.add('sandbox host', () => host.close());
await host.reap();

const networks = new Networks<BuildNetworkOwner>({
  hash: createHash('sha256').update(`builder of ${paths.root}`).digest('hex').slice(0, 8),
  stateDir: join(paths.builder, 'network'),
  runDir: RUN_DIR,
  dns: config.SKIFF_EGRESS_DNS,
  devices: config.SKIFF_EGRESS_DEVICES,
  opened: config.SKIFF_EGRESS_INTERNAL,
  log,
  onDenied: (owner, denial) => owner.onLine(describeDenial(denial).message),
});
shutdown.add('networks', () => networks.close());
await networks.reap();

const store = await openStore({
  dir: join(paths.builder, 'store'),
  registry,
  bytesMax: BUILDER_STORE_BYTES_MAX,
});
const npmFolder = await findNpmFolder(process.env['PATH'] ?? '');
const bases = new BaseImages({
  registry,
  store,
  npmFolder,
  workDir: join(paths.builder, 'base'),
  onProgress: (runtime, line) => log.info({ runtime, detail: line }, 'base image'),
});
const cache = new TarballCache(join(paths.builder, 'tarballs'), TARBALL_CACHE_BYTES_MAX);
const npm = createNpmTool({
  createMirror: async () => {
    const { registry, certificates } = await readNpmSettings(npmFolder, config.SKIFF_NPM_REGISTRY);
    return new NpmMirror({ registry, certificates, cache, log });
  },
  npmFolder,
  openProgram: async (program) => {
    const found = await findProgram(program, MODULES, join(paths.builder, 'base/npm'), npmFolder);
    return found.open((line) => log.info({ detail: line }, 'package manager'));
  },
});
shutdown.add('npm mirror', () => npm.close());
const pip = createPipTool(
  async (runtime) =>
    findPip({
      workDir: join(paths.builder, 'base'),
      rootfs: (await bases.openRootfs(runtime)).lowerDirs[0] as string,
      index: config.SKIFF_PIP_INDEX ?? process.env['PIP_INDEX_URL'],
      cafile: process.env['PIP_CERT'],
    }),
  ({ index, certificates }) => new PipMirror({ registry: index, certificates, cache, log }),
);
shutdown.add('pip mirror', () => pip.close());
const toolchain = new Toolchain(join(paths.builder, 'toolchain'), join(paths.builder, 'base/debian'));
const dependencies = new DependencyStore(folders.dependencies, INSTALLED_TREES_BYTES_MAX);
const installer = new Installer({
  host,
  tools: {
    javascript: npm,
    python: pip,
  },
  store: dependencies,
  openRootfs: (runtime) => bases.openRootfs(runtime),
  openToolchain: (level, onProgress) => toolchain.open(level, onProgress),
  workFolder: join(paths.builder, 'installs'),
  channelFolder: join(paths.run, 'install'),
  log,
});
await installer.open();

const catalog = openCatalog(durableRedis);
const verifier = new Verifier({ redis: fastRedis, openBlocking: () => openBlockingRedis(urls.fast) });
shutdown.add('verifier', () => verifier.close());
const parts: BuildParts = {
  catalog,
  registry,
  engine,
  installer,
  dependencies,
  verifier,
  bases,
  images: new InputIndex(join(paths.builder, 'images'), BuiltImage),
  configs: new InputIndex(join(paths.builder, 'configs'), RememberedConfig),
  hold: (digest) => holdImage(durableRedis, digest),
  workFolder: folders.work,
  externals: createExternalRegistries({
    logins: parseLogins(config.SKIFF_REGISTRY_LOGINS?.reveal() ?? '{}'),
    findLogin: openRegistryLogins(durableRedis, paths.secretKey).tryFind,
    certificates: config.SKIFF_REGISTRY_CA,
  }),
  containers: await openContainerBuilder({
    host,
    uidBase: config.SKIFF_RUNNER_UID_BASE,
    networks,
    folder: join(paths.builder, 'containers'),
  }),
  log,
};
const worker = new BuildWorker({
  redis: queueRedis,
  catalog,
  concurrency: config.SKIFF_BUILDER_CONCURRENCY,
  runBuild: (job, progress, signal) => runBuild(parts, job, progress, signal),
  log,
});
await subscribeChanges(changesRedis, (change) => {
  if (change.kind === 'cancel') worker.cancel(change.name);
});
const collector = new Collector({ redis: durableRedis, catalog, registry, log });
const collecting = setInterval(() => {
  collector.run().catch((error: unknown) => log.warn({ error }, 'unneeded images could not be collected'));
}, COLLECT_MS);
shutdown.add('collector', () => clearInterval(collecting));
shutdown.add('builds', () => worker.stop());
worker.start();
log.info({ concurrency: config.SKIFF_BUILDER_CONCURRENCY }, 'builder is ready');

bases.ensure(FIRST_RUNTIME).then(
  (base) => log.info({ runtime: FIRST_RUNTIME, detail: `ready: ${base.reference}` }, 'base image'),
  (error: unknown) =>
    log.error(
      { error: toSkiffError(error), runtime: FIRST_RUNTIME },
      'the base image could not be made; builds try again',
    ),
);
