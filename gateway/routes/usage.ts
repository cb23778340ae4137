/** `skiff df`: what every bounded store uses of its budget. Reads counters only, never whole stores. */
import type { Redis } from 'ioredis';
import { fast } from '../../infra/contract/keys.ts';
import type { NodeRecord, Usage } from '../../sdk/protocol/api.ts';
import {
  BUILDS_QUEUED_MAX,
  DEPLOYMENTS_KEPT_PER_FUNCTION,
  LOG_LINES_KEPT_PER_FUNCTION,
  TOKENS_MAX,
} from '../../sdk/protocol/limits.ts';
import type { GatewayParts } from '../parts.ts';
import { readLiveNodes } from '../swarm/nodes.ts';
import type { Handlers } from './route.ts';

export function createUsageHandlers(parts: GatewayParts): Pick<Handlers, 'readUsage'> {
  return {
    async readUsage() {
      const functions = await parts.catalog.listFunctions();
      const [durable, fastStore, logs, nodes, waiting, tokens] = await Promise.all([
        readMemory(parts.durable),
        readMemory(parts.fast),
        countLogLines(
          parts.fast,
          functions.map(({ name }) => name),
        ),
        readLiveNodes(parts.fast),
        parts.builds.countWaiting(),
        parts.catalog.listTokens(),
      ]);
      const deployments = functions.reduce((sum, entry) => sum + entry.deployments.length, 0);
      return {
        stores: [
          { store: 'redis durable', ...durable },
          { store: 'redis fast', ...fastStore },
          { store: 'functions', count: functions.length },
          {
            store: 'deployments',
            count: deployments,
            countMax: functions.length * DEPLOYMENTS_KEPT_PER_FUNCTION,
          },
          { store: 'log lines', count: logs, countMax: functions.length * LOG_LINES_KEPT_PER_FUNCTION },
          { store: 'builds waiting', count: waiting, countMax: BUILDS_QUEUED_MAX },
          { store: 'tokens', count: tokens.length, countMax: TOKENS_MAX },
          ...nodes.flatMap(describeNode),
        ],
      };
    },
  };
}

function describeNode({ id, used, capacity, images }: NodeRecord): Usage[] {
  const sandboxes = {
    store: `sandboxes ${id}`,
    bytes: used.memoryBytes,
    bytesMax: capacity.memoryBytes,
    count: used.sandboxes,
  };
  return images ? [sandboxes, { store: `images ${id}`, ...images }] : [sandboxes];
}

async function readMemory(redis: Redis): Promise<Pick<Usage, 'bytes' | 'bytesMax'>> {
  const info = await redis.info('memory');
  const read = (name: string) => Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(info)?.[1] ?? 0);
  const bytesMax = read('maxmemory');
  return { bytes: read('used_memory'), ...(bytesMax > 0 && { bytesMax }) };
}

async function countLogLines(redis: Redis, names: readonly string[]): Promise<number> {
  if (names.length === 0) return 0;
  const pipeline = redis.pipeline();
  for (const name of names) pipeline.xlen(fast.logs(name));
  let sum = 0;
  for (const [error, length] of (await pipeline.exec()) ?? []) {
    if (error) throw error;
    sum += Number(length);
  }
  return sum;
}
