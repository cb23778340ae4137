/**
 * `skiff df`: what every bounded store uses of its budget. Counters are read, not stores; but for the embedded
 * registry, which has none: its files are counted.
 */
import { lstat, readdir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { cellsOf } from '../../infra/lib/redis.ts';
import { primariesOf } from '../../infra/lib/redis-cluster.ts';
import type { NodeRecord, Usage } from '../../sdk/protocol/api.ts';
import {
  BUILDS_QUEUED_MAX,
  DEPLOYMENTS_KEPT_PER_FUNCTION,
  EVENTS_PER_FUNCTION_MAX,
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
      const { store } = parts.events;
      const [durable, fastStore, logs, nodes, waiting, tokens, unfinished, dead, registry] =
        await Promise.all([
          readMemory(parts.durable),
          readMemory(parts.fast),
          countLogLines(
            parts.fast,
            functions.map(({ name }) => name),
          ),
          readLiveNodes(parts.fast),
          parts.builds.countWaiting(),
          parts.catalog.listTokens(),
          store.countUnfinished(),
          store.countDead(),
          tryMeasure(parts.registryDir),
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
          {
            store: 'events unfinished',
            count: unfinished,
            countMax: functions.length * EVENTS_PER_FUNCTION_MAX,
          },
          { store: 'events dead', count: dead },
          ...(registry ? [{ store: 'registry', ...registry }] : []),
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
  const infos = await Promise.all(primariesOf(redis).map((primary) => primary.info('memory')));
  const read = (name: string) =>
    infos.reduce((sum, info) => sum + Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(info)?.[1] ?? 0), 0);
  const bytesMax = read('maxmemory');
  return { bytes: read('used_memory'), ...(bytesMax > 0 && { bytesMax }) };
}

async function countLogLines(redis: Redis, names: readonly string[]): Promise<number> {
  const cells = cellsOf(redis);
  const counts = await Promise.all(names.map((name) => redis.xlen(cells.ofFunction(name).fast.logs(name))));
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Undefined when the registry is not one of this host. The limit is what its file system has left for it. */
async function tryMeasure(
  folder: string | undefined,
): Promise<Pick<Usage, 'bytes' | 'bytesMax' | 'count'> | undefined> {
  if (folder === undefined) return undefined;
  try {
    const { bytes, count } = await measure(join(folder, 'docker/registry/v2/blobs'));
    const { bavail, bsize } = await statfs(folder);
    return { bytes, bytesMax: bytes + bavail * bsize, count };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Bytes and number of the files below. One that goes meanwhile is not counted. */
async function measure(folder: string): Promise<{ bytes: number; count: number }> {
  let bytes = 0;
  let count = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const stat = await lstat(join(entry.parentPath, entry.name)).catch(() => undefined);
    if (!stat) continue;
    bytes += stat.size;
    count++;
  }
  return { bytes, count };
}
