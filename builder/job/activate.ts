/** Moves the `live` alias, or a share of its traffic, to a deployment that was verified. */
import type { AliasTarget, FunctionStore } from '../../infra/catalog/functions.ts';
import type { Alias } from '../../sdk/protocol/api.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';

const ATTEMPTS_MAX = 8;
const LIVE = 'live';

/**
 * Compare-and-set until it holds. Ids sort by the time of the request, so of two deploys that overlap the later one
 * stays live, whichever was built first. A deployment that is live already is left as it is.
 * With `canary` it gets so many percent, and the heaviest deployment that was live keeps the rest.
 * @throws SkiffError CONFLICT when a newer deployment is live; NOT_FOUND when the function was removed meanwhile.
 */
export async function activateDeployment(
  store: FunctionStore,
  name: string,
  deploymentId: string,
  canary?: number,
): Promise<Alias> {
  for (let attempt = 1; ; attempt++) {
    const entry = await store.getFunction(name);
    const live = entry?.aliases.find((alias) => alias.name === LIVE);
    if (live?.targets.some((target) => target.deployment === deploymentId)) return live;
    const newer = live?.targets.find((target) => target.deployment > deploymentId);
    if (newer) {
      throw new SkiffError(
        'CONFLICT',
        `a newer deployment of "${name}" (${newer.deployment}) went live while this one was built; this one was dropped`,
      );
    }
    try {
      const targets = shareTraffic(deploymentId, live, canary);
      return await store.setAlias(name, LIVE, targets, live?.version ?? 0);
    } catch (error) {
      const isMoved = error instanceof SkiffError && error.code === 'CONFLICT';
      if (!isMoved || attempt >= ATTEMPTS_MAX) throw error;
    }
  }
}

function shareTraffic(
  deployment: string,
  live: Alias | undefined,
  canary: number | undefined,
): AliasTarget[] {
  const heaviest = live?.targets.toSorted((a, b) => b.weight - a.weight)[0];
  if (canary === undefined || !heaviest) return [{ deployment, weight: 100 }];
  return [
    { deployment, weight: canary },
    { deployment: heaviest.deployment, weight: 100 - canary },
  ];
}
