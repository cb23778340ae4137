/**
 * All sandboxes of this host: starts instances from stems, keeps the memory budget, and decides who ends.
 * Invariant: the memory limits of instances and stems together stay within the budget; room is made before a start,
 * never after (a burst would hold old and new memory at once and the kernel would choose the victim).
 *
 * Who goes first when room is needed, and who was idle for too long: keep-alive.ts.
 */
import { join } from 'node:path';
import type { Deployment } from '../../sdk/protocol/api.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { LayerStore } from '../../infra/oci/store.ts';
import { findRuntime, runtimeEnv } from '../../infra/runtimes/catalog.ts';
import type { SandboxHost } from '../../infra/sandbox/contract.ts';
import { PIDS_MAX, SECRETS_BYTES_PER_FUNCTION_MAX, TMP_BYTES_MAX } from '../../sdk/protocol/limits.ts';
import type { LoadCommand } from '../../sdk/protocol/invocation.ts';
import { parseCallTarget, secretEnvName } from '../../sdk/protocol/manifest.ts';
import type { SecretStore } from '../../infra/secrets/secrets.ts';
import type { CodeCaches } from '../code-cache/code-caches.ts';
import type { FunctionLog } from '../log/function-log.ts';
import { createRedaction } from '../log/redaction.ts';
import { type ContainerParts, startContainer } from '../http/container.ts';
import { EGRESS } from '../../infra/network/egress-host.ts';
import type { Networks } from '../../infra/network/networks.ts';
import { Instance, type InstanceOwner } from './instance.ts';
import type { GuestSpec } from './guest-sandbox.ts';
import { isOverdue, priorityOf } from './keep-alive.ts';
import type { Stems } from './stems.ts';
import { attachCodeCache, attachLayer } from './task-folder.ts';

export interface PoolOptions {
  readonly host: SandboxHost;
  readonly store: LayerStore;
  readonly stems: Stems;
  readonly log: FunctionLog;
  readonly memoryBytesMax: number;
  readonly stemsPerBase: number;
  readonly owner: InstanceOwner;
  readonly networks: Pick<Networks<Deployment>, 'bind'>;
  /** Absent: none are made or used. */
  readonly codeCaches: Pick<CodeCaches, 'tryFind' | 'onLoaded'> | undefined;
  /** See ContainerParts. */
  readonly filesDir: string;
  readonly secretsDir: string;
  readonly volumes: ContainerParts['volumes'];
  readonly secrets: Pick<SecretStore, 'reveal'>;
  /** Takes an instance's slots back from the queue; false when one is in use somewhere. */
  readonly retract: (instance: Instance) => Promise<boolean>;
}

export interface StartWish {
  /** A replica of a service. */
  readonly isPinned?: boolean;
  /** Whether somebody still waits for it, asked meanwhile. */
  readonly isWanted?: Promise<boolean>;
}

const WANTED = Promise.resolve(true);

export class Pool {
  readonly #options: PoolOptions;
  readonly #instances = new Map<string, Instance>();
  readonly #bases = new Map<string, { lowerDirs: string[] }>();
  #reservedBytes = 0;
  #clock = 0;

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  get instances(): IterableIterator<Instance> {
    return this.#instances.values();
  }

  get(sandbox: string): Instance | undefined {
    return this.#instances.get(sandbox);
  }

  get count(): number {
    return this.#instances.size;
  }

  get memoryBytesMax(): number {
    return this.#options.memoryBytesMax;
  }

  get usedBytes(): number {
    return this.#reservedBytes + this.#options.stems.memoryBytes;
  }

  /**
   * Starts one instance. Rejects with OVERLOADED when there is no room, COLD_START_FAILED when it cannot start, or when
   * it turns out not to be wanted; that is known before any code of the function runs.
   */
  async start(
    deployment: Deployment,
    receivedMs: number,
    { isPinned = false, isWanted = WANTED }: StartWish = {},
  ): Promise<Instance> {
    const { config } = deployment;
    await this.#makeRoom(config.memory);
    this.#reservedBytes += config.memory;
    let isStarted = false;
    const release = this.#options.stems.holdRefill();
    try {
      const instance = await (deployment.container
        ? this.#startContainer(deployment, receivedMs, { isPinned, isWanted })
        : this.#specialise(deployment, receivedMs, isWanted));
      isStarted = true;
      instance.isPinned = isPinned;
      this.#instances.set(instance.guest.id, instance);
      // It may have died between its LOADED and here.
      if (instance.state === 'gone')
        throw new SkiffError('COLD_START_FAILED', 'the sandbox ended right after it was loaded');
      // An image may have work of its own to do.
      if (!deployment.container) instance.rest();
      return instance;
    } finally {
      release();
      if (!isStarted) this.#reservedBytes -= config.memory;
    }
  }

  /** Takes memory for something that is no instance; nobody ends for it. Undefined: there is no room. */
  tryReserve(bytes: number): (() => void) | undefined {
    if (this.usedBytes + bytes > this.#options.memoryBytesMax) return undefined;
    this.#reservedBytes += bytes;
    return () => (this.#reservedBytes -= bytes);
  }

  /** Called once for every instance that ended. */
  forget(instance: Instance): void {
    if (this.#instances.delete(instance.guest.id)) this.#reservedBytes -= instance.deployment.config.memory;
    this.#options.stems.onRoom();
    const { layers, reference } = instance.deployment.image;
    const repository = repositoryOf(reference);
    for (const layer of layers) this.#options.store.unpin(repository, layer.digest);
    if (instance.deployment.container)
      this.#options.store.unpin(repository, instance.deployment.image.digest);
  }

  /** Ends instances that were idle for their keep-alive time; `isCurrent` says whether an alias still points there. */
  async sweep(now: number, isCurrent: (deployment: Deployment) => boolean): Promise<void> {
    for (const instance of this.#instances.values()) {
      if (instance.state !== 'active' || !instance.isQuiet || instance.isPinned) continue;
      const keepMs = isCurrent(instance.deployment)
        ? instance.deployment.config.keepAlive
        : OLD_DEPLOYMENT_KEEP_MS;
      if (!isOverdue(instance.lastUsedMs, keepMs, now) || this.#isMinimum(instance, isCurrent)) continue;
      await this.tryEnd(instance);
    }
  }

  /** Ends instances of these deployments as soon as their calls have ended. */
  drainWhere(isConcerned: (deployment: Deployment) => boolean): void {
    for (const instance of this.#instances.values()) if (isConcerned(instance.deployment)) instance.drain();
  }

  async close(): Promise<void> {
    const all = [...this.#instances.values()];
    const kept = all.filter(({ isPinned, guest }) => isPinned && guest.end !== undefined);
    for (const { guest } of kept) guest.end?.();
    const isOver = new Promise((resolve) => setTimeout(resolve, CLOSE_MS_MAX).unref());
    await Promise.race([isOver, Promise.all(kept.map(({ guest }) => guest.exited))]);
    for (const instance of all) instance.guest.kill();
    await Promise.all(all.map((instance) => instance.guest.exited));
  }

  /** Announces which base image new functions will likely need. */
  async prepare(deployment: Deployment): Promise<void> {
    if (deployment.container) return;
    const kind = await this.#stemKind(deployment);
    this.#options.stems.keep(kind.key, kind.spec, this.#options.stemsPerBase);
  }

  #isMinimum(instance: Instance, isCurrent: (deployment: Deployment) => boolean): boolean {
    const { id, config } = instance.deployment;
    if (config.min === 0 || !isCurrent(instance.deployment)) return false;
    let active = 0;
    for (const other of this.#instances.values())
      if (other.deployment.id === id && other.state === 'active') active++;
    return active <= config.min;
  }

  async #makeRoom(bytes: number): Promise<void> {
    const { memoryBytesMax, stems } = this.#options;
    if (bytes > memoryBytesMax) {
      throw new SkiffError(
        'OVERLOADED',
        `the function needs ${bytes} bytes; this host gives sandboxes ${memoryBytesMax} in all`,
      );
    }
    const candidates = [...this.#instances.values()].filter(
      (one) => one.state === 'active' && one.isQuiet && !one.isPinned,
    );
    candidates.sort((a, b) => this.#priority(a) - this.#priority(b));
    while (this.usedBytes + bytes > memoryBytesMax) {
      const victim = candidates.shift();
      if (victim) {
        if (!(await this.tryEnd(victim))) continue;
        this.#clock = Math.max(this.#clock, victim.priority);
        await victim.guest.exited;
      } else if (!stems.trySacrifice()) {
        throw new SkiffError(
          'OVERLOADED',
          `sandboxes use ${this.usedBytes} of ${memoryBytesMax} bytes and none is idle`,
        );
      }
    }
  }

  #priority(instance: Instance): number {
    const { config } = instance.deployment;
    const { uses, coldMs } = instance;
    instance.priority = priorityOf(this.#clock, { uses, coldMs, memoryBytes: config.memory });
    return instance.priority;
  }

  /** Ends an instance that nobody uses. False: somebody does. */
  async tryEnd(instance: Instance): Promise<boolean> {
    if (!(await this.#options.retract(instance))) return false;
    instance.drain();
    return true;
  }

  async #stemKind(deployment: Deployment): Promise<{ key: string; spec: GuestSpec }> {
    const { config, image } = deployment;
    if (!image.base)
      throw new SkiffError('COLD_START_FAILED', 'the image is not built on one of our base images');
    const root = await this.#ensureBase(image.base);
    // The command is ours, never the image's: a function cannot change how its runtime boots.
    const runtime = findRuntime(config.runtime);
    const spec: GuestSpec = {
      lowerDirs: root.lowerDirs,
      args: runtime.command(config.memory),
      env: runtimeEnv(runtime),
      cwd: '/var/task',
      memoryBytes: config.memory,
      cpu: 1,
      pidsMax: PIDS_MAX,
      tmpBytes: Math.min(TMP_BYTES_MAX, config.memory / 2),
      isolation: config.isolation,
      runtimeClass: config.runtimeClass,
      ...(config.network === 'none' ? {} : { networkNamespace: EGRESS }),
    };
    const network = config.network === 'none' ? 'none' : EGRESS;
    const kind = [image.base.digest, config.memory, config.isolation, network, config.runtimeClass];
    return { key: kind.join(' '), spec };
  }

  /** An image with a server of its own: started as it is, for this deployment alone. */
  async #startContainer(
    deployment: Deployment,
    receivedMs: number,
    { isPinned, isWanted }: Required<StartWish>,
  ): Promise<Instance> {
    const { owner, log } = this.#options;
    await assertWanted(isWanted);
    const secrets = await this.#reveal(deployment);
    const { env, secrets: files = {} } = withSecrets({}, secrets);
    const guest = await startContainer(this.#options, deployment, { env, files }, isPinned);
    return new Instance(deployment, guest, Date.now() - receivedMs, owner, log);
  }

  /** Base images in use stay: stems stand on them. */
  async #ensureBase(base: { reference: string; digest: string }): Promise<{ lowerDirs: string[] }> {
    const known = this.#bases.get(base.digest);
    if (known) return known;
    const root = await this.#options.store.ensureRootfs(base.reference);
    this.#options.store.pin(repositoryOf(base.reference), base.digest);
    this.#bases.set(base.digest, root);
    return root;
  }

  /** Also teaches the log to leave them out. */
  async #reveal({ id, functionName, config }: Deployment): Promise<ReadonlyMap<string, string>> {
    const values = await this.#options.secrets.reveal(config.secrets, functionName);
    const bytes = [...values.values()].reduce((sum, value) => sum + Buffer.byteLength(value), 0);
    if (bytes > SECRETS_BYTES_PER_FUNCTION_MAX) {
      throw new SkiffError(
        'COLD_START_FAILED',
        `the secrets of "${functionName}" have ${bytes} bytes; the limit is ${SECRETS_BYTES_PER_FUNCTION_MAX}`,
      );
    }
    this.#options.log.redact(id, createRedaction(values));
    return values;
  }

  async #specialise(
    deployment: Deployment,
    receivedMs: number,
    isWanted: Promise<boolean>,
  ): Promise<Instance> {
    const { config, image, functionName } = deployment;
    const { store, stems, stemsPerBase, owner, log, codeCaches } = this.#options;
    const repository = repositoryOf(image.reference);
    const [kind, secrets, layers] = await Promise.all([
      this.#stemKind(deployment),
      this.#reveal(deployment),
      Promise.all(image.layers.map((layer) => store.ensureLayer(repository, layer))),
    ]);
    if (stemsPerBase > 0) stems.keep(kind.key, kind.spec, stemsPerBase);
    if (!stems.hasReady(kind.key)) await assertWanted(isWanted);
    const guest = await stems.claim(kind.key, kind.spec);
    try {
      const limits =
        config.cpu === kind.spec.cpu
          ? []
          : [guest.sandbox.setLimits({ memoryBytes: config.memory, cpu: config.cpu, pidsMax: PIDS_MAX })];
      const attach = async (): Promise<void> => {
        const task = join(guest.folder, 'task');
        for (const layer of layers) await attachLayer(layer, task);
        const cache = await codeCaches?.tryFind(deployment);
        if (cache !== undefined) attachCodeCache(cache, task, deployment.entry);
      };
      const bind = config.network === 'none' ? [] : [this.#options.networks.bind(guest.id, deployment)];
      await Promise.all([assertWanted(isWanted), attach(), ...limits, ...bind]);
      const result = await guest.load({
        functionName,
        deployment: deployment.id,
        entry: deployment.entry,
        ...withSecrets(config.env, secrets),
        concurrency: config.concurrency,
        memoryBytes: config.memory,
        ...(config.calls.length > 0 && { calls: config.calls.map((text) => parseCallTarget(text).alias) }),
      });
      if (!result.ok) {
        throw new SkiffError(
          'COLD_START_FAILED',
          `the function failed while it was loading: ${result.message ?? 'no message'}`,
          {
            details: { stack: result.stack ?? '' },
          },
        );
      }
      for (const layer of image.layers) store.pin(repository, layer.digest);
      const instance = new Instance(deployment, guest, Date.now() - receivedMs, owner, log);
      codeCaches?.onLoaded(instance, guest, result);
      return instance;
    } catch (error) {
      guest.kill();
      throw error;
    }
  }
}

async function assertWanted(isWanted: Promise<boolean>): Promise<void> {
  if (!(await isWanted)) throw new SkiffError('COLD_START_FAILED', 'nobody waits for it any more');
}

/** Each secret is a variable and a file. */
function withSecrets(
  env: Readonly<Record<string, string>>,
  secrets: ReadonlyMap<string, string>,
): Pick<LoadCommand, 'env' | 'secrets'> {
  if (secrets.size === 0) return { env };
  const variables = [...secrets].map(([name, value]) => [secretEnvName(name), value] as const);
  return { env: { ...env, ...Object.fromEntries(variables) }, secrets: Object.fromEntries(secrets) };
}

/** Of the time that a runner has to end, for replicas that write down what they have. */
const CLOSE_MS_MAX = 3_000;
/** Sandboxes of deployments no alias points to any more: long enough for a rollback, short enough for the memory. */
const OLD_DEPLOYMENT_KEEP_MS = 10_000;

/** `functions/hello@sha256:…` -> `functions/hello`. */
export function repositoryOf(reference: string): string {
  return reference.split('@')[0] as string;
}
