/**
 * Durable steps: what an invocation's function has done already, and what it sleeps or waits for. Invariant: a step is
 * stored once, by the holder of the newest fence token; whoever comes later is told what is stored.
 *
 * Entries, JSON: k kind (step, sleep, wait) · e number of the event that came · v value · due until when it sleeps or waits
 * · event, match: what it waits for · at when it was stored.
 * One with `due` is pending.
 */
import type { Redis } from 'ioredis';
import type { InvocationStep } from '../../sdk/protocol/events.ts';
import type { StepKind, StoredStep } from '../../sdk/protocol/workflow/steps.ts';
import { ONE_CELL, type Cell } from '../contract/cells.ts';
import type { EventKeys } from '../contract/keys.ts';
import { defineEventScripts, type RunScript } from './scripts.ts';
import { parseJobs, type ReleasedJob } from './shards.ts';
import type { Reply } from './wire.ts';

export interface Holder {
  readonly id: string;
  readonly fence: number;
}

export interface NewStep {
  readonly step: string;
  readonly kind: StepKind;
  /** Of a step. */
  readonly value?: unknown;
  /** How long it sleeps or waits, or until when (epoch ms). */
  readonly ms?: number | undefined;
  readonly untilMs?: number | undefined;
  readonly event?: string | undefined;
  readonly match?: Readonly<Record<string, unknown>> | undefined;
}

export type PutReply =
  | { readonly kind: 'stored'; readonly stored: StoredStep }
  | { readonly kind: 'full'; readonly what: 'count' | 'bytes' | 'memory'; readonly limit: number };

const SIGNAL_BATCH = 200;

export class StepStore {
  readonly #redis: Redis;
  readonly #keys: EventKeys;
  readonly #run: RunScript;

  constructor(redis: Redis, cell: Cell = ONE_CELL.first) {
    this.#redis = redis;
    this.#keys = cell.events;
    this.#run = defineEventScripts(redis, cell);
  }

  /** By name. Undefined when the invocation is somebody else's. */
  async load({ id, fence }: Holder): Promise<ReadonlyMap<string, StoredStep> | undefined> {
    const [kind, , ...pairs] = (await this.#run('step-load', [id, fence])) as Reply;
    if (String(kind) !== 'OK') return undefined;
    const steps = new Map<string, StoredStep>();
    for (let i = 0; i + 1 < pairs.length; i += 2)
      steps.set(String(pairs[i]), parseEntry(String(pairs[i + 1])));
    return steps;
  }

  /** Undefined when the invocation is somebody else's. `bytesMax`: unfinished bytes of all invocations. */
  async put({ id, fence }: Holder, step: NewStep, bytesMax: number): Promise<PutReply | undefined> {
    const { kind, value, event, match = {}, ms, untilMs } = step;
    const entry = JSON.stringify({
      k: kind,
      v: value,
      ...(event === undefined ? {} : { event, match }),
      at: Date.now(),
    });
    const args = [id, fence, step.step, entry.slice(0, -1), ms ?? '', untilMs ?? '', event ?? '', bytesMax];
    const [reply, detail, limit] = (await this.#run('step-put', args)) as Reply;
    switch (String(reply)) {
      case 'OK':
        return {
          kind: 'stored',
          stored: kind === 'step' ? parseEntry(entry) : { kind, isPending: true },
        };
      case 'KNOWN':
        return { kind: 'stored', stored: parseEntry(String(detail)) };
      case 'FULL':
        return { kind: 'full', what: String(detail) as 'count' | 'bytes' | 'memory', limit: Number(limit) };
      default:
        return undefined;
    }
  }

  /** What is stored, without values, in no order. */
  async list(id: string): Promise<InvocationStep[]> {
    return Object.entries(await this.#redis.hgetall(this.#keys.steps(id))).map(([name, json]) => {
      const { k, due, event, at } = JSON.parse(json) as {
        k: StepKind;
        due?: number;
        event?: string;
        at?: number;
      };
      return {
        name,
        kind: k,
        isPending: due !== undefined,
        ...(due === undefined ? {} : { dueMs: due }),
        ...(event === undefined ? {} : { event }),
        ...(at === undefined ? {} : { atMs: at }),
      };
    });
  }

  /** Ids of those that waited for it, each as often as it did. `isKept`: also for invocations that wait later. */
  async signal(name: string, data: unknown, isKept = true): Promise<{ ids: string[]; jobs: ReleasedJob[] }> {
    const json = JSON.stringify(data ?? null);
    const ids: string[] = [];
    const jobs: ReleasedJob[] = [];
    let [since, number]: [string | number, string] = ['', ''];
    for (let passed = 0; passed >= 0;) {
      const args = [name, json, since, number, passed, SIGNAL_BATCH, isKept ? 1 : ''];
      const reply = (await this.#run('signal', args)) as [unknown, unknown, unknown, Reply, ...Reply[]];
      const [at, of, next, given, ...released] = reply;
      since = Number(at);
      number = String(of);
      passed = Number(next);
      ids.push(...given.map(String));
      jobs.push(...parseJobs(released));
    }
    return { ids, jobs };
  }
}

function parseEntry(json: string): StoredStep {
  const { k, v, due } = JSON.parse(json) as { k: StepKind; v?: unknown; due?: number };
  return {
    kind: k,
    ...(due === undefined ? {} : { isPending: true }),
    ...(v === undefined ? {} : { value: v }),
  };
}
