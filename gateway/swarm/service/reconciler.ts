/**
 * Keeps services as they should be: once a second, in the gateway that has the lead, reads what is, plans (plan.ts) and
 * gives orders. Owns the progress of updates: watching them, pausing them or rolling them back.
 * Invariant: an order is given only under the lead (infra/swarm/lead.ts) and a service is changed only by
 * compare-and-set, so two that believe to lead do no harm.
 */
import type { Redis } from 'ioredis';
import type { Deployment, NodeRecord } from '../../../sdk/protocol/api.ts';
import { createId } from '../../../sdk/protocol/ids.ts';
import { Replica, type Service } from '../../../sdk/protocol/swarm/resources.ts';
import { publishChange } from '../../../infra/catalog/changes.ts';
import { fast as keys } from '../../../infra/contract/keys.ts';
import type { Lead, PendingTask } from '../../../infra/swarm/lead.ts';
import type { Services } from '../../../infra/swarm/services.ts';
import type { Volumes } from '../../../infra/swarm/volumes.ts';
import type { StoreClock } from '../../../infra/lib/skew.ts';
import type { Log } from '../../../infra/lib/log.ts';
import { planService, type Plan, type Situation } from './plan.ts';
import { advanceUpdate } from './update.ts';
import { dropRemoved, pinToVolumes, volumesOf } from './volumes.ts';

export interface ReconcilerOptions {
  readonly lead: Lead;
  readonly services: Services;
  readonly volumes: Volumes;
  readonly durable: Redis;
  readonly fast: Redis;
  /** That replicas say their times in. */
  readonly clock: Pick<StoreClock, 'now'>;
  readonly log: Log;
  /** Nodes that are up. */
  readNodes(): Promise<NodeRecord[]>;
  getDeployment(id: string): Promise<Deployment | undefined>;
  /** Duties of whoever leads, beside services. */
  onLead(): Promise<void>;
}

const TICK_MS = 1_000;
/** A start includes fetching an image. A node that dies meanwhile is noticed sooner. */
const PENDING_MS = 60_000;

export class Reconciler {
  readonly #options: ReconcilerOptions;
  readonly #timer: NodeJS.Timeout;
  /** Who runs what, as gateways were last told. */
  readonly #told = new Map<string, string>();
  #running: Promise<void> | undefined;
  #isClosed = false;

  constructor(options: ReconcilerOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.soon(), TICK_MS);
  }

  soon(): void {
    if (this.#isClosed) return;
    this.#running ??= this.#tick()
      .catch((error: unknown) => this.#options.log.warn({ error }, 'services could not be looked after'))
      .finally(() => (this.#running = undefined));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#timer);
    await this.#running;
    await this.#options.lead.leave().catch(() => {});
  }

  async #tick(): Promise<void> {
    const { lead, services, onLead, readNodes, fast } = this.#options;
    if (!(await lead.take())) return;
    await onLead();
    const [all, nodes, pending] = await Promise.all([services.list(), readNodes(), lead.pending()]);
    const replicas = await readReplicas(fast, nodes);
    await this.#clean(pending, replicas, nodes);
    const load = new Map<string, number>();
    for (const { node } of replicas) load.set(node, (load.get(node) ?? 0) + 1);
    for (const service of all) {
      try {
        await this.#reconcile(service, { nodes, replicas, pending, load });
      } catch (error) {
        this.#options.log.warn({ error, service: service.name }, 'a service could not be looked after');
      }
    }
    await this.#endOrphans(all, replicas);
    await dropRemoved(this.#options.volumes, nodes);
  }

  async #reconcile(
    service: Service,
    world: {
      nodes: readonly NodeRecord[];
      replicas: readonly Replica[];
      pending: ReadonlyMap<string, PendingTask>;
      load: ReadonlyMap<string, number>;
    },
  ): Promise<void> {
    const deployment = await this.#options.getDeployment(service.spec.deployment);
    const situation: Situation = {
      service,
      replicas: world.replicas.filter((replica) => replica.service === service.name),
      pending: [...world.pending.values()].filter((task) => task.service === service.name),
      nodes: world.nodes,
      memoryBytes: deployment?.config.memory ?? 0,
      constraints: [
        ...(deployment?.config.constraints ?? []),
        ...(await pinToVolumes(this.#options.volumes, deployment)),
      ],
      load: world.load,
      nowMs: this.#options.clock.now(),
    };
    await this.#tell(situation);
    const plan = planService(situation);
    await this.#order(service, plan, deployment ? volumesOf(deployment) : []);
    const changed = advanceUpdate(situation, plan);
    if (changed) {
      this.#options.log.info({ service: service.name, status: changed.updateStatus }, 'service update');
      await this.#options.services.update(changed);
    }
  }

  async #order(service: Service, plan: Plan, volumes: readonly string[]): Promise<void> {
    const { lead } = this.#options;
    for (const step of plan.steps) {
      if (step.kind === 'stop') {
        await lead.tryOrder(step.node, { stop: step.task });
        continue;
      }
      const task = createId('tsk');
      const { deployment, revision } = service.spec;
      const { slot, node } = step;
      const claimed = await Promise.all(volumes.map((name) => this.#options.volumes.claim(name, node)));
      // Somebody else decided otherwise meanwhile, or its data is going: the next look knows.
      if (claimed.some((volume) => volume.node !== node || volume.removedMs !== undefined)) continue;
      const order = { id: task, dep: deployment, replica: { service: service.name, slot, task, revision } };
      const untilMs = this.#options.clock.now() + PENDING_MS;
      await lead.tryOrder(node, order, {
        task,
        service: service.name,
        slot,
        deployment,
        revision,
        node,
        untilMs,
      });
    }
  }

  /** Gateways route by who runs; they are told when that changes. */
  async #tell({ service, replicas }: Situation): Promise<void> {
    const running = replicas
      .filter(({ state }) => state === 'running')
      .map(({ task }) => task)
      .sort()
      .join(' ');
    if (this.#told.get(service.name) === running) return;
    this.#told.set(service.name, running);
    await publishChange(this.#options.durable, { kind: 'service', name: service.name });
  }

  async #clean(
    pending: Map<string, PendingTask>,
    replicas: readonly Replica[],
    nodes: readonly NodeRecord[],
  ): Promise<void> {
    const reported = new Set(replicas.map(({ task }) => task));
    const up = new Set(nodes.map(({ id }) => id));
    const gone = [...pending].filter(
      ([task, { node, untilMs }]) =>
        reported.has(task) || !up.has(node) || untilMs < this.#options.clock.now(),
    );
    for (const [task] of gone) pending.delete(task);
    await this.#options.lead.forget(gone.map(([task]) => task));
  }

  /** Of services that were removed. */
  async #endOrphans(all: readonly Service[], replicas: readonly Replica[]): Promise<void> {
    const names = new Set(all.map(({ name }) => name));
    for (const name of this.#told.keys()) if (!names.has(name)) this.#told.delete(name);
    for (const { service, state, task, node } of replicas) {
      if (names.has(service) || state === 'failed' || state === 'stopping') continue;
      await this.#options.lead.tryOrder(node, { stop: task });
    }
  }
}

/** What nodes report that are up. A record of a newer version that does not fit is left out. */
export async function readReplicas(fast: Redis, nodes: readonly NodeRecord[]): Promise<Replica[]> {
  if (nodes.length === 0) return [];
  const values = await fast.mget(nodes.map(({ id }) => keys.replicas(id)));
  return values.flatMap((json) =>
    json === null ? [] : (JSON.parse(json) as unknown[]).flatMap((one) => Replica.safeParse(one).data ?? []),
  );
}
