/** Functions, their immutable deployments and their aliases. */
import type { Redis } from 'ioredis';
import { z } from 'zod';
import { durable } from '../contract/keys.ts';
import { Alias, Deployment } from '../../sdk/protocol/api.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { DEPLOYMENTS_KEPT_PER_FUNCTION } from '../../sdk/protocol/limits.ts';
import { FunctionName, NamespaceName } from '../../sdk/protocol/manifest.ts';
import type { CatalogScripts } from './scripts.ts';
import { parseStored } from './stored.ts';

/** A function as stored. What a client sees beside it (URL, sandboxes) the gateway adds. */
export interface FunctionEntry {
  readonly name: string;
  readonly createdMs: number;
  readonly aliases: readonly Alias[];
  /** Ids, newest first. */
  readonly deployments: readonly string[];
}

export type AliasTarget = Alias['targets'][number];

/** What the invoker needs to route one function; cache it until a change of the function is published. */
export interface RouteEntry {
  readonly name: string;
  readonly alias: Alias;
  /** In the order of `alias.targets`; weights sum to 100. */
  readonly targets: readonly { readonly weight: number; readonly deployment: Deployment }[];
  /** Why nobody is to wait for an answer; events may. */
  readonly refusal?: string;
}

export interface FunctionStore {
  /** Undefined when there is none; a function exists from its first alias on. */
  getFunction(name: string): Promise<FunctionEntry | undefined>;
  /** By creation, oldest first. */
  listFunctions(): Promise<FunctionEntry[]>;
  /**
   * Writes a deployment once and prunes old ones. Returns the pruned ids.
   * @throws SkiffError CONFLICT when another deployment has this id.
   */
  putDeployment(deployment: Deployment): Promise<string[]>;
  getDeployment(id: string): Promise<Deployment | undefined>;
  /** Newest first. */
  listDeployments(name: string): Promise<Deployment[]>;
  /** Does nothing when there is none. @throws SkiffError CONFLICT while an alias names it. */
  removeDeployment(deployment: { readonly id: string; readonly functionName: string }): Promise<void>;
  /**
   * Moves an alias. `expectedVersion` is the `Alias.version` the caller saw; 0 means "there was none", absent
   * means "whatever it is".
   * @throws SkiffError CONFLICT (details.version is the present one) · NOT_FOUND for an unknown deployment ·
   *   INVALID_NAME · BAD_REQUEST when the weights do not sum to 100.
   */
  setAlias(
    name: string,
    alias: string,
    targets: readonly AliasTarget[],
    expectedVersion?: number,
  ): Promise<Alias>;
  /** Removes aliases and deployments too. Returns the removed deployments' ids. @throws SkiffError FUNCTION_NOT_FOUND. */
  removeFunction(name: string): Promise<string[]>;
  /** The alias (`live` unless given) with its deployments; undefined when the function or the alias is not there. */
  resolveRoute(name: string, alias?: string): Promise<RouteEntry | undefined>;
}

const DEPLOYMENT_PREFIX = durable.deployment('');

// oxlint-disable-next-line max-lines-per-function -- a list of short methods that share two parameters
export function openFunctionStore(redis: Redis, scripts: CatalogScripts): FunctionStore {
  return {
    async getFunction(name) {
      const [entry] = await readFunctions(redis, [name]);
      return entry;
    },

    async listFunctions() {
      return readFunctions(redis, await redis.zrange(durable.functions, 0, '-1'));
    },

    async putDeployment(deployment) {
      const { id, functionName, createdMs } = deployment;
      const [status, ...pruned] = await scripts.catalogPutDeployment(
        durable.deployment(id),
        durable.functionDeployments(functionName),
        durable.functionAliases(functionName),
        id,
        JSON.stringify(Deployment.parse(deployment)),
        createdMs,
        DEPLOYMENTS_KEPT_PER_FUNCTION,
        DEPLOYMENT_PREFIX,
      );
      if (status === 'OK') return pruned as string[];
      throw new SkiffError('CONFLICT', `deployment ${id} exists and differs; deployments are never changed`);
    },

    async getDeployment(id) {
      const key = durable.deployment(id);
      const json = await redis.get(key);
      return json === null ? undefined : parseStored(Deployment, json, key);
    },

    async listDeployments(name) {
      const ids = await redis.zrevrange(durable.functionDeployments(name), 0, -1);
      if (ids.length === 0) return [];
      const values = await redis.mget(ids.map((id) => durable.deployment(id)));
      return values.flatMap((json, i) =>
        json === null ? [] : [parseStored(Deployment, json, durable.deployment(ids[i] as string))],
      );
    },

    async removeDeployment({ id, functionName }) {
      const [status, alias] = await scripts.catalogRemoveDeployment(
        durable.deployment(id),
        durable.functionDeployments(functionName),
        durable.functionAliases(functionName),
        id,
      );
      if (status === 'OK') return;
      throw new SkiffError(
        'CONFLICT',
        `deployment ${id} is in use: alias "${alias}" names it; move the alias first`,
      );
    },

    setAlias: (name, alias, targets, expectedVersion) =>
      setAlias(scripts, name, alias, targets, expectedVersion),

    async removeFunction(name) {
      const [status, ...removed] = await scripts.catalogRemoveFunction(
        durable.functions,
        durable.functionRecord(name),
        durable.functionDeployments(name),
        durable.functionAliases(name),
        name,
        DEPLOYMENT_PREFIX,
        durable.changes,
      );
      if (status === 'OK') return removed as string[];
      throw new SkiffError('FUNCTION_NOT_FOUND', `there is no function "${name}"`);
    },

    async resolveRoute(name, alias = 'live') {
      const aliasesKey = durable.functionAliases(name);
      const [aliasJson, ...deployments] = await scripts.catalogResolveRoute(
        durable.functionRecord(name),
        aliasesKey,
        alias,
        DEPLOYMENT_PREFIX,
      );
      if (typeof aliasJson !== 'string') return undefined;
      const record = parseStored(Alias, aliasJson, aliasesKey);
      const targets = record.targets.map(({ deployment: id, weight }, i) => ({
        weight,
        deployment: parseStored(Deployment, deployments[i] ?? 'null', durable.deployment(id)),
      }));
      return { name, alias: record, targets };
    },
  };
}

async function setAlias(
  scripts: CatalogScripts,
  name: string,
  alias: string,
  targets: readonly AliasTarget[],
  expectedVersion: number | undefined,
): Promise<Alias> {
  assertName(name, 'function');
  assertName(alias, 'alias');
  assertTargets(alias, targets);
  const [status, detail] = await scripts.catalogSetAlias(
    durable.functions,
    durable.functionRecord(name),
    durable.functionDeployments(name),
    durable.functionAliases(name),
    name,
    alias,
    JSON.stringify(targets.map(({ deployment, weight }) => ({ deployment, weight }))),
    expectedVersion === undefined ? '' : String(expectedVersion),
    Date.now(),
    durable.changes,
    ...targets.map((target) => target.deployment),
  );
  switch (status) {
    case 'OK':
      return parseStored(Alias, detail as string, durable.functionAliases(name));
    case 'MISSING':
      throw new SkiffError(
        'NOT_FOUND',
        `function "${name}" has no deployment ${detail}; see GET /v1/functions/${name}/deployments`,
      );
    default:
      throw new SkiffError(
        'CONFLICT',
        `alias "${alias}" of function "${name}" is at version ${detail}, not ${expectedVersion}; read it again and repeat`,
        { details: { version: Number(detail) } },
      );
  }
}

function assertName(name: string, what: 'function' | 'alias'): void {
  const parsed = (what === 'alias' ? NamespaceName : FunctionName).safeParse(name);
  if (!parsed.success) {
    throw new SkiffError('INVALID_NAME', `${what} name "${name}": ${parsed.error.issues[0]?.message}`);
  }
}

function assertTargets(alias: string, targets: readonly AliasTarget[]): void {
  const sum = targets.reduce((total, target) => total + target.weight, 0);
  const ids = new Set(targets.map((target) => target.deployment));
  if (!Alias.shape.targets.safeParse(targets).success || sum !== 100 || ids.size !== targets.length) {
    throw new SkiffError(
      'BAD_REQUEST',
      `alias "${alias}" needs one or two different deployments with whole weights that sum to 100; got ${targets.length} with a sum of ${sum}`,
    );
  }
}

const CreatedMs = z.coerce.number();

async function readFunctions(redis: Redis, names: readonly string[]): Promise<FunctionEntry[]> {
  if (names.length === 0) return [];
  const pipeline = redis.pipeline();
  for (const name of names) {
    pipeline.hget(durable.functionRecord(name), 'createdMs');
    pipeline.hvals(durable.functionAliases(name));
    pipeline.zrevrange(durable.functionDeployments(name), 0, -1);
  }
  const replies = ((await pipeline.exec()) ?? []).map(([error, value]) => {
    if (error) throw error;
    return value;
  });
  return names.flatMap((name, i) => {
    const [createdMs, aliases, deployments] = replies.slice(i * 3, i * 3 + 3) as [
      string | null,
      string[],
      string[],
    ];
    if (createdMs === null) return [];
    return [
      {
        name,
        createdMs: parseStored(CreatedMs, createdMs, durable.functionRecord(name)),
        aliases: aliases.map((json) => parseStored(Alias, json, durable.functionAliases(name))),
        deployments,
      },
    ];
  });
}
