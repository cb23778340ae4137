/** Everything of events but HTTP and sandboxes, in this process on a real Redis and a real registry-less blob store. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import type { Redis } from 'ioredis';
import { Acceptor } from '../../gateway/events/accept/acceptor.ts';
import { Routes } from '../../gateway/invoke/routes.ts';
import { openCatalog, type Catalog } from '../../infra/catalog/catalog.ts';
import { Durability } from '../../infra/events/durability.ts';
import { openPayloads } from '../../infra/events/payloads.ts';
import { openShardQueues, type ShardQueues } from '../../infra/events/shards.ts';
import { EventStore } from '../../infra/events/store.ts';
import { openRedis } from '../../infra/lib/redis.ts';
import { openRegistry } from '../../infra/oci/registry.ts';
import { ScheduleStore } from '../../infra/schedules/store.ts';
import type { FunctionConfigInput } from '../../sdk/protocol/manifest.ts';
import { createDeployment } from './deployment.ts';
import { startRedis, type TestRedis } from './redis.ts';

export interface TestEventParts {
  readonly server: TestRedis;
  readonly redis: Redis;
  readonly catalog: Catalog;
  readonly store: EventStore;
  readonly schedules: ScheduleStore;
  readonly queues: ShardQueues;
  readonly acceptor: Acceptor;
  readonly routes: Routes;
  deploy(name: string, config?: FunctionConfigInput): Promise<void>;
  close(): Promise<void>;
}

export async function openTestEventParts(): Promise<TestEventParts> {
  const folder = await mkdtemp(join(tmpdir(), 'skiff-events-'));
  const server = await startRedis();
  const redis = openRedis(server.url);
  const queueRedis = openRedis(server.url);
  await Promise.all([redis.connect(), queueRedis.connect()]);
  const log = pino({ level: 'silent' });
  const catalog = openCatalog(redis);
  const routes = new Routes((name) => catalog.resolveRoute(name));
  const store = new EventStore(redis);
  const durability = new Durability({ redis, class: 'fast', epochFile: join(folder, 'epoch'), log });
  await durability.open();
  const queues = openShardQueues(queueRedis, () => {});
  // Small bodies only: nothing is listening there.
  const payloads = openPayloads(openRegistry({ url: 'http://127.0.0.1:9' }), redis);
  const acceptor = new Acceptor({ store, queues, payloads, durability, log });
  return {
    server,
    redis,
    catalog,
    store,
    schedules: new ScheduleStore(redis),
    queues,
    acceptor,
    routes,
    async deploy(name, config = {}) {
      const deployment = createDeployment(name, { config });
      await catalog.putDeployment(deployment);
      await catalog.setAlias(name, 'live', [{ deployment: deployment.id, weight: 100 }]);
      routes.drop(name);
    },
    async close() {
      durability.close();
      await queues.close();
      redis.disconnect();
      queueRedis.disconnect();
      await server.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
