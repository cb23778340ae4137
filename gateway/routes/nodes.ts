/** Whether any host runs sandboxes. Everything else about nodes: gateway/swarm/nodes.ts. */
import type { Redis } from 'ioredis';
import { fast } from '../../infra/contract/keys.ts';
import { cellsOf } from '../../infra/lib/redis.ts';

/** A record outlives its runner by some seconds; the sign of life does not. */
export async function isAnyRunnerAlive(redis: Redis): Promise<boolean> {
  const ids = await redis.zrange(fast.nodes, 0, '-1');
  if (ids.length === 0) return false;
  return (await redis.mget(ids.map((id) => cellsOf(redis).first.fast.alive(id)))).some(
    (epoch) => epoch !== null,
  );
}
