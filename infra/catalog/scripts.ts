/** The catalog's Lua scripts as typed commands. Each script's contract is the header of its .lua file. */
import type { Redis } from 'ioredis';
import { defineScript } from '../lib/redis.ts';

type Reply = (string | null)[];

export interface CatalogScripts {
  catalogPutDeployment(
    deployment: string,
    functionDeployments: string,
    functionAliases: string,
    id: string,
    json: string,
    createdMs: number,
    kept: number,
    deploymentPrefix: string,
  ): Promise<Reply>;
  catalogRemoveDeployment(
    deployment: string,
    functionDeployments: string,
    functionAliases: string,
    id: string,
  ): Promise<Reply>;
  catalogSetAlias(
    functions: string,
    functionRecord: string,
    functionDeployments: string,
    functionAliases: string,
    functionName: string,
    alias: string,
    targetsJson: string,
    expectedVersion: string,
    nowMs: number,
    changesChannel: string,
    ...deployments: string[]
  ): Promise<Reply>;
  catalogRemoveFunction(
    functions: string,
    functionRecord: string,
    functionDeployments: string,
    functionAliases: string,
    functionName: string,
    deploymentPrefix: string,
    changesChannel: string,
  ): Promise<Reply>;
  catalogResolveRoute(
    functionRecord: string,
    functionAliases: string,
    alias: string,
    deploymentPrefix: string,
  ): Promise<Reply>;
  catalogPutBuild(build: string, json: string, keptMs: number): Promise<number>;
}

const KEY_COUNTS = {
  'put-deployment': 3,
  'remove-deployment': 3,
  'set-alias': 4,
  'remove-function': 4,
  'resolve-route': 2,
  'put-build': 1,
} as const;

export function defineCatalogScripts(redis: Redis): CatalogScripts {
  for (const [file, keyCount] of Object.entries(KEY_COUNTS)) {
    const command = `catalog-${file}`.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
    defineScript(redis, command, new URL(`./${file}.lua`, import.meta.url), keyCount);
  }
  return redis as unknown as CatalogScripts;
}
