/**
 * The replicas of services that this node runs, as it reports them with every heartbeat.
 * Invariants: a task is started at most once; a node that has not been able to say for SERVICE_FENCE_MS that it lives
 * ends its replicas, because others run in their place by then. (A runner that is itself stopped cannot; it does so
 * first thing when it goes on.)
 * Deliberately absent: how many there should be and where (gateway/swarm/reconciler.ts).
 */
import type { Redis } from 'ioredis';
import type { Replica } from '../../sdk/protocol/swarm/resources.ts';
import { RUNNER_DEAD_MS } from '../../sdk/protocol/limits.ts';
import type { StartOrder } from '../../infra/contract/jobs.ts';
import type { StoreClock } from '../../infra/lib/skew.ts';
import { fast } from '../../infra/contract/keys.ts';
import type { Instance } from '../pool/instance.ts';

interface Task {
  record: Replica;
  instance?: Instance;
}

/** How long a failed task stays in the report: the reconciler looks every second, and may just be changing. */
const FAILED_KEPT_MS = 30_000;
const RECORD_MS = RUNNER_DEAD_MS * 4;

export class Replicas {
  readonly #node: string;
  readonly #redis: Redis;
  /** Whoever leads compares the times of all nodes' replicas. */
  readonly #clock: Pick<StoreClock, 'now'>;
  readonly #tasks = new Map<string, Task>();
  #wasEmpty = false;

  constructor(node: string, redis: Redis, clock: Pick<StoreClock, 'now'>) {
    this.#node = node;
    this.#redis = redis;
    this.#clock = clock;
  }

  get count(): number {
    return this.#tasks.size;
  }

  /** False: this task was begun before. */
  tryBegin(order: StartOrder): boolean {
    const { replica, dep } = order;
    if (!replica || this.#tasks.has(replica.task)) return false;
    const record: Replica = {
      task: replica.task,
      service: replica.service,
      slot: replica.slot,
      deployment: dep,
      revision: replica.revision ?? 0,
      node: this.#node,
      state: 'starting',
      sinceMs: this.#clock.now(),
    };
    this.#tasks.set(replica.task, { record });
    return true;
  }

  /** False: it was stopped while it started, so the instance is to end. */
  tryRun(order: StartOrder, instance: Instance): boolean {
    const task = this.#tasks.get(order.replica?.task ?? '');
    if (!task || task.record.state !== 'starting') return false;
    task.instance = instance;
    this.#change(task, 'running');
    task.record = { ...task.record, sandbox: instance.guest.id };
    return true;
  }

  fail(order: StartOrder, message: string): void {
    const task = this.#tasks.get(order.replica?.task ?? '');
    if (task) this.#change(task, 'failed', message);
  }

  stop(id: string): void {
    const task = this.#tasks.get(id);
    if (!task || task.record.state === 'failed') {
      this.#tasks.delete(id);
      return;
    }
    this.#change(task, 'stopping');
    task.instance?.drain();
  }

  onGone(instance: Instance): void {
    for (const [id, task] of this.#tasks) {
      if (task.instance !== instance) continue;
      if (task.record.state === 'stopping') this.#tasks.delete(id);
      else this.#change(task, 'failed', `its sandbox ended: ${instance.ending ?? 'no reason known'}`);
    }
  }

  /** Ends all, at once. */
  fence(): number {
    const tasks = [...this.#tasks.values()].filter(({ record }) => record.state !== 'failed');
    for (const task of tasks) {
      this.#change(task, 'failed', 'this node had lost its swarm');
      task.instance?.guest.kill();
    }
    return tasks.length;
  }

  async report(): Promise<void> {
    const now = this.#clock.now();
    for (const [id, { record }] of this.#tasks)
      if (record.state === 'failed' && now - record.sinceMs > FAILED_KEPT_MS) this.#tasks.delete(id);
    const records = [...this.#tasks.values()].map(({ record }) => record);
    if (records.length === 0 && this.#wasEmpty) return;
    this.#wasEmpty = records.length === 0;
    const key = fast.replicas(this.#node);
    if (records.length === 0) await this.#redis.del(key);
    else await this.#redis.set(key, JSON.stringify(records), 'PX', RECORD_MS);
  }

  #change(task: Task, state: Replica['state'], message?: string): void {
    task.record = {
      ...task.record,
      state,
      sinceMs: this.#clock.now(),
      ...(message === undefined ? {} : { message }),
    };
  }
}
