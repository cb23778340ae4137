/**
 * The durable record of what exists: functions, deployments, aliases, tokens and builds, in the durable Redis.
 * Gateway, builder and runner share it.
 *
 * Invariants: a deployment is written once and never changed; an alias only ever names deployments that exist, and
 * moves by compare-and-set; a build that ended stays ended. Whatever is read is checked against its zod schema.
 * Every change is published on `durable.changes`, so that readers may cache.
 * Deliberately absent: anything of the fast store (idle slots, logs, nodes) and the images themselves.
 */
import type { Redis } from 'ioredis';
import { type BuildStore, openBuildStore } from './builds.ts';
import { type FunctionStore, openFunctionStore } from './functions.ts';
import { defineCatalogScripts } from './scripts.ts';
import { type TokenStore, openTokenStore } from './tokens.ts';

export interface Catalog extends FunctionStore, TokenStore, BuildStore {}

/** `redis` is a fail-fast connection to the durable store (`openRedis`); the catalog does not close it. */
export function openCatalog(redis: Redis): Catalog {
  const scripts = defineCatalogScripts(redis);
  return {
    ...openFunctionStore(redis, scripts),
    ...openTokenStore(redis),
    ...openBuildStore(redis, scripts),
  };
}
