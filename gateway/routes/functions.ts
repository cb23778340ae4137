/** Functions, deployments and aliases as clients see them. */
import type { Redis } from 'ioredis';
import { publishChange } from '../../infra/catalog/changes.ts';
import type { FunctionEntry } from '../../infra/catalog/functions.ts';
import { functionRepository } from '../../infra/contract/jobs.ts';
import { cellsOf } from '../../infra/lib/redis.ts';
import { isServiceAway } from '../../infra/lib/unavailable.ts';
import type { Deployment, FunctionRecord } from '../../sdk/protocol/api.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { owns } from '../middleware/auth.ts';
import type { GatewayParts } from '../parts.ts';
import { cancelBuildsOf } from './builds.ts';
import { functionNotFound, functionUrl } from './links.ts';
import type { Handlers } from './route.ts';

type FunctionRoutes =
  | 'listFunctions'
  | 'getFunction'
  | 'removeFunction'
  | 'restartFunction'
  | 'listDeployments'
  | 'getDeployment'
  | 'setAlias';

export function createFunctionHandlers(parts: GatewayParts): Pick<Handlers, FunctionRoutes> {
  const { catalog } = parts;

  async function getEntry(name: string): Promise<FunctionEntry> {
    const entry = await catalog.getFunction(name);
    if (!entry) throw functionNotFound(name);
    return entry;
  }

  return {
    async listFunctions(_input, c) {
      const own = (await catalog.listFunctions()).filter(({ name }) => owns(c.var.token, name));
      return { functions: await describe(parts, own) };
    },

    async getFunction({ name }) {
      const [record] = await describe(parts, [await getEntry(name)]);
      return record as FunctionRecord;
    },

    async removeFunction({ name }) {
      const cancelled = await cancelBuildsOf(parts, name);
      const deployments = await catalog.listDeployments(name);
      if (deployments.length === 0 && cancelled > 0) return undefined;
      await catalog.removeFunction(name);
      await removeImages(parts, deployments);
      return undefined;
    },

    async restartFunction({ name }) {
      await getEntry(name);
      await publishChange(parts.durable, { kind: 'restart', name });
      return undefined;
    },

    async listDeployments({ name }) {
      const deployments = await catalog.listDeployments(name);
      if (deployments.length === 0) await getEntry(name);
      return { deployments };
    },

    async getDeployment({ id }, c) {
      const deployment = await catalog.getDeployment(id);
      if (!deployment || !owns(c.var.token, deployment.functionName))
        throw new SkiffError('NOT_FOUND', `there is no deployment ${id}`);
      return deployment;
    },

    async setAlias({ name, alias, body }) {
      // An alias of a name that nothing was deployed under would report its deployment as missing, not the function.
      if ((await catalog.listDeployments(name)).length === 0) throw functionNotFound(name);
      return catalog.setAlias(name, alias, body.targets, body.version);
    },
  };
}

/** Adds what is not stored with a function: its URL, what its live deployment says, how many sandboxes it has. */
async function describe(parts: GatewayParts, entries: readonly FunctionEntry[]): Promise<FunctionRecord[]> {
  const live = await Promise.all(entries.map((entry) => getLive(parts, entry)));
  const sandboxes = await countSandboxes(parts.fast, entries);
  return entries.map((entry, i) => {
    const alias = entry.aliases.find(({ name }) => name === 'live');
    const config = live[i]?.config;
    const count = sandboxes?.[i];
    return {
      name: entry.name,
      createdMs: entry.createdMs,
      url: functionUrl(parts.publicUrl, entry.name),
      ...(alias && { live: alias }),
      deployments: [...entry.deployments],
      ...(count !== undefined && { sandboxes: count }),
      ...(config && { runtime: config.runtime, access: config.access, labels: config.labels }),
    };
  });
}

async function getLive({ catalog }: GatewayParts, entry: FunctionEntry): Promise<Deployment | undefined> {
  const id = entry.aliases.find(({ name }) => name === 'live')?.targets[0]?.deployment;
  return id === undefined ? undefined : catalog.getDeployment(id);
}

/** Undefined when the fast store is away: the list of functions does not depend on it. */
async function countSandboxes(
  redis: Redis,
  entries: readonly FunctionEntry[],
): Promise<number[] | undefined> {
  const cells = cellsOf(redis);
  const count = (id: string) => redis.zcount(cells.ofId(id).fast.live(id), Date.now(), '+inf');
  try {
    return await Promise.all(
      entries.map(async ({ aliases }) => {
        const ids = new Set(aliases.flatMap(({ targets }) => targets.map(({ deployment }) => deployment)));
        return (await Promise.all([...ids].map(count))).reduce((sum, each) => sum + each, 0);
      }),
    );
  } catch (error) {
    if (isServiceAway(error)) return undefined;
    throw error;
  }
}

/** Nothing refers to them any more. What cannot be removed now costs disk space and nothing else. */
async function removeImages(
  { registry, log }: GatewayParts,
  deployments: readonly Deployment[],
): Promise<void> {
  for (const { functionName, image } of deployments) {
    await registry
      .deleteManifest(functionRepository(functionName), image.digest)
      .catch((error: unknown) => log.warn({ error, image: image.reference }, 'image not removed'));
  }
}
