/**
 * Starts sandboxes for orders that this node took, and says what became of each.
 * Invariant: an order that was taken ends as a sandbox, as a failure that whoever waits is told, or in other hands.
 * Deliberately absent: which orders are taken (demand.ts), and how a sandbox is started (pool).
 */
import type { Redis } from 'ioredis';
import { LRUCache } from 'lru-cache';
import type { Deployment } from '../../sdk/protocol/api.ts';
import { SkiffError, toSkiffError } from '../../sdk/protocol/errors.ts';
import { END, FrameType } from '../../sdk/protocol/frame.ts';
import { encodeTiming, parseEnvelope, type InvocationFailure } from '../../sdk/protocol/invocation.ts';
import { replicaDeployment, type StartOrder, type StartResult } from '../../infra/contract/jobs.ts';
import { fast } from '../../infra/contract/keys.ts';
import type { Dispatcher } from '../../infra/dispatch/dispatcher.ts';
import type { Log } from '../../infra/lib/log.ts';
import type { Intake } from '../invoke/intake.ts';
import type { Links } from '../invoke/links.ts';
import type { Instance } from '../pool/instance.ts';
import type { NamespaceQuota } from '../pool/namespace-quota.ts';
import type { Pool } from '../pool/pool.ts';
import type { Replicas } from '../service/replicas.ts';
import type { Readiness } from './readiness/readiness.ts';
import type { Rebalance } from './rebalance.ts';
import type { Standing } from './standing.ts';

export interface StartsOptions {
  readonly redis: Redis;
  readonly dispatcher: Dispatcher;
  readonly getDeployment: (id: string) => Promise<Deployment | undefined>;
  readonly pool: Pool;
  readonly quota: NamespaceQuota;
  readonly replicas: Replicas;
  readonly standing: Pick<Standing, 'peers'>;
  readonly readiness: Pick<Readiness, 'confirm'>;
  readonly links: Pick<Links, 'waitFor'>;
  readonly intake: Pick<Intake, 'open'>;
  readonly rebalance: Pick<Rebalance, 'onStarted'>;
  readonly log: Log;
}

export class Starts {
  readonly #options: StartsOptions;
  readonly #deployments = new LRUCache<string, Deployment>({ max: 1_000 });
  /** Deployments that fail to start again and again are not tried before `untilMs`. */
  readonly #failing = new LRUCache<string, { count: number; untilMs: number; error: SkiffError }>({
    max: 1_000,
  });
  #count = 0;

  constructor(options: StartsOptions) {
    this.#options = options;
  }

  /** Under way. */
  get count(): number {
    return this.#count;
  }

  /** Never rejects. */
  async run(order: StartOrder): Promise<void> {
    const started = Date.now();
    this.#count++;
    const { dispatcher, replicas } = this.#options;
    const hold = () => dispatcher.holdOrder(order);
    const holding = setInterval(() => void hold().catch(() => {}), 1_000);
    // Asked for while the sandbox is prepared; no code of the function runs before the answer.
    const isWanted = order.replica
      ? Promise.resolve(true)
      : hold().then((held) => held || order.reply === true);
    isWanted.catch(() => {});
    try {
      if (order.replica && !replicas.tryBegin(order)) return;
      const instance = await this.#start(order, started, isWanted);
      if (order.replica && !replicas.tryRun(order, instance)) return instance.drain();
      await this.#options.intake.open(instance, order.id);
      if (order.instead !== undefined) this.#options.rebalance.onStarted(order.instead);
      this.#failing.delete(order.dep);
      await this.#reply(order, { ok: true, ms: Date.now() - started, sandbox: instance.guest.id });
    } catch (error) {
      if (!(await isWanted.catch(() => true))) return;
      await this.fail(order, toSkiffError(error), Date.now() - started);
    } finally {
      clearInterval(holding);
      this.#count--;
    }
  }

  async #start(order: StartOrder, startedMs: number, isWanted: Promise<boolean>): Promise<Instance> {
    const failing = this.#failing.get(order.dep);
    if (failing && failing.untilMs > Date.now() && !order.reply) throw failing.error;
    const deployment = await this.getDeployment(order.dep);
    if (!deployment)
      throw new SkiffError('COLD_START_FAILED', `deployment ${order.dep} does not exist any more`);
    const { pool, quota } = this.#options;
    const id = order.replica ? replicaDeployment(order.dep, order.replica.service) : deployment.id;
    const isPinned = order.replica !== undefined;
    return quota.start(deployment, order.id, () =>
      pool.start({ ...deployment, id }, startedMs, { isPinned, isWanted }),
    );
  }

  async getDeployment(id: string): Promise<Deployment | undefined> {
    const known = this.#deployments.get(id);
    if (known) return known;
    const deployment = await this.#options.getDeployment(id);
    if (deployment) this.#deployments.set(id, deployment);
    return deployment;
  }

  async #reply(order: StartOrder, result: StartResult): Promise<void> {
    if (!order.reply) return;
    const key = fast.startResult(order.id);
    await this.#options.redis.multi().rpush(key, JSON.stringify(result)).expire(key, 60).exec();
  }

  /** Tells whoever waits for it. `ms`: what was spent on it. Never rejects. */
  async fail(order: StartOrder, error: SkiffError, ms: number): Promise<void> {
    await this.#fail(order, error, ms).catch((later: unknown) =>
      this.#options.log.error({ error: later, order }, 'a failed start could not be reported'),
    );
  }

  async #fail(order: StartOrder, error: SkiffError, ms: number): Promise<void> {
    const { log, dispatcher, links } = this.#options;
    const hasRoom = error.code !== 'OVERLOADED';
    const isThrottled = error.code === 'THROTTLED';
    log[isThrottled ? 'debug' : 'warn'](
      { error, deployment: order.dep, ms },
      'a sandbox could not be started',
    );
    if (order.replica) return this.#options.replicas.fail(order, error.message);
    // Nobody waits for it.
    if (order.instead !== undefined) return dispatcher.dropOrder(order);
    if (hasRoom && !isThrottled && (await this.#isOurFault(error))) return dispatcher.giveOn(order);
    if (error.code === 'COLD_START_FAILED') this.#remember(order.dep, error);
    await this.#reply(order, {
      ok: false,
      ms,
      code: error.code,
      message: error.message,
      ...(typeof error.details?.['stack'] === 'string' ? { stack: error.details['stack'] } : {}),
    });
    if (!hasRoom && !order.reply) {
      // Somebody else may have room, or we ourselves in a moment.
      setTimeout(() => void dispatcher.giveOn(order).catch(() => {}), 50);
      return;
    }
    const cause = isThrottled ? 'throttled' : 'cold_start_failed';
    const failure: InvocationFailure = { cause, message: error.message, started: false };
    const payload = Buffer.from(JSON.stringify(failure));
    for (const envelope of await dispatcher.failStart(order.dep, order.id)) {
      const { route } = parseEnvelope(envelope);
      const timing = encodeTiming({
        queueMs: Math.max(0, Date.now() - route.enqueuedMs - ms),
        coldMs: ms,
        execMs: 0,
      });
      const link = await links.waitFor(route.gw, 1_000);
      link?.connection.send(FrameType.ERROR | END, route.stream, payload, timing);
    }
  }

  /** Others can do better: no invocation passes through this node, and it was not a function that said no. */
  async #isOurFault(error: SkiffError): Promise<boolean> {
    if (error.details?.['stack'] !== undefined) return false;
    return !(await this.#options.readiness.confirm()) && this.#options.standing.peers.length > 0;
  }

  #remember(deployment: string, error: SkiffError): void {
    const count = (this.#failing.get(deployment)?.count ?? 0) + 1;
    // The first failures may be chance; from the third on the host is spared.
    const waitMs = count < 3 ? 0 : Math.min(30_000, 250 * 2 ** count);
    this.#failing.set(deployment, { count, untilMs: Date.now() + waitMs, error });
  }
}
