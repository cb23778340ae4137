/**
 * Builds and their events. Both expire (BUILDS_KEPT_MS), events are capped (BUILD_LOG_LINES_KEPT): a build is a
 * process, not a possession. The gateway writes `queued` and, for a build no builder has taken, `cancelled`;
 * every later state is the builder's.
 */
import type { Redis } from 'ioredis';
import { durable } from '../contract/keys.ts';
import { followStream } from '../lib/stream.ts';
import { type BuildEvent, BuildRecord } from '../../sdk/protocol/api.ts';
import { BUILDS_KEPT_MS, BUILD_LOG_LINES_KEPT } from '../../sdk/protocol/limits.ts';
import { publishChange } from './changes.ts';
import type { CatalogScripts } from './scripts.ts';
import { parseStored } from './stored.ts';

export interface BuildStore {
  /** Creates or updates the record. False when the build has ended before (for example: was cancelled). */
  putBuild(build: BuildRecord): Promise<boolean>;
  getBuild(id: string): Promise<BuildRecord | undefined>;
  removeBuild(id: string): Promise<void>;
  appendBuildEvent(id: string, event: BuildEvent): Promise<void>;
  /** Asks the builder that runs it to stop. Nobody may be listening. */
  requestBuildCancel(id: string): Promise<void>;
  /**
   * All events from the first on, as they come, until the one of type `end` or `signal`. Ends with a made-up `end`
   * when the build is over and its own `end` was lost, and without one when the build has expired.
   */
  followBuildEvents(
    id: string,
    options: { signal: AbortSignal; after?: string; quietMs?: number },
  ): AsyncGenerator<BuildEvent>;
}

const ENDED: ReadonlySet<BuildRecord['state']> = new Set(['succeeded', 'failed', 'cancelled']);

/** Whether nothing will happen to the build any more. */
export function isBuildEnded(build: BuildRecord): boolean {
  return ENDED.has(build.state);
}

export function openBuildStore(redis: Redis, scripts: CatalogScripts): BuildStore {
  async function getBuild(id: string): Promise<BuildRecord | undefined> {
    const key = durable.build(id);
    const json = await redis.get(key);
    return json === null ? undefined : parseStored(BuildRecord, json, key);
  }

  return {
    getBuild,

    async putBuild(build) {
      const json = JSON.stringify(BuildRecord.parse(build));
      return (await scripts.catalogPutBuild(durable.build(build.id), json, BUILDS_KEPT_MS)) === 1;
    },

    async removeBuild(id) {
      await redis.del(durable.build(id), durable.buildEvents(id));
    },

    async appendBuildEvent(id, event) {
      const key = durable.buildEvents(id);
      const replies = await redis
        .multi()
        .xadd(key, 'MAXLEN', '~', BUILD_LOG_LINES_KEPT, '*', 'e', JSON.stringify(event))
        .pexpire(key, BUILDS_KEPT_MS)
        .exec();
      for (const [error] of replies ?? []) if (error) throw error;
    },

    async requestBuildCancel(id) {
      await publishChange(redis, { kind: 'cancel', name: id });
    },

    async *followBuildEvents(id, { signal, after = '0', quietMs = 5_000 }) {
      const stream = { key: durable.buildEvents(id), field: 'e', after, signal, quietMs };
      for await (const entries of followStream(redis, stream)) {
        for (const entry of entries) {
          const event = JSON.parse(entry.value) as BuildEvent;
          yield event;
          if (event.type === 'end') return;
        }
        if (entries.length > 0) continue;
        // Quiet for a while: the builder may have died between the record and the event.
        const build = await getBuild(id);
        if (build && !isBuildEnded(build)) continue;
        if (build) yield { type: 'end', atMs: build.endedMs ?? Date.now(), build };
        return;
      }
    },
  };
}
