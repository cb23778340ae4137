/** Hosts that are alive: their records expire by themselves when their runner stops renewing them. */
import type { Redis } from 'ioredis';
import { fast } from '../../infra/contract/keys.ts';
import { NodeRecord } from '../../sdk/protocol/api.ts';
import type { GatewayParts } from '../parts.ts';
import type { Handlers } from './route.ts';

export function createNodeHandlers({ fast: redis }: GatewayParts): Pick<Handlers, 'listNodes'> {
  return {
    async listNodes() {
      return { nodes: await readNodes(redis) };
    },
  };
}

/** By id. A record of a newer version that does not fit is left out. */
export async function readNodes(redis: Redis): Promise<NodeRecord[]> {
  const ids = await redis.zrange(fast.nodes, 0, '-1');
  if (ids.length === 0) return [];
  const values = await redis.mget(ids.map((id) => fast.node(id)));
  return values
    .flatMap((json) => {
      const parsed = json === null ? undefined : NodeRecord.safeParse(JSON.parse(json));
      return parsed?.success ? [parsed.data] : [];
    })
    .sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** A record outlives its runner by some seconds; the sign of life does not. */
export async function isAnyRunnerAlive(redis: Redis): Promise<boolean> {
  const ids = await redis.zrange(fast.nodes, 0, '-1');
  if (ids.length === 0) return false;
  return (await redis.mget(ids.map((id) => fast.alive(id)))).some((epoch) => epoch !== null);
}
