/** Moves the `live` alias to a deployment that was verified. */
import type { FunctionStore } from '../../infra/catalog/functions.ts';
import type { Alias } from '../../sdk/protocol/api.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';

const ATTEMPTS_MAX = 8;
const LIVE = 'live';

/**
 * Compare-and-set until it holds. Ids sort by the time of the request, so of two deploys that overlap the later one
 * stays live, whichever was built first. A deployment that is live already is left as it is.
 * @throws SkiffError CONFLICT when a newer deployment is live; NOT_FOUND when the function was removed meanwhile.
 */
export async function activateDeployment(
  store: FunctionStore,
  name: string,
  deploymentId: string,
): Promise<Alias> {
  for (let attempt = 1; ; attempt++) {
    const entry = await store.getFunction(name);
    const live = entry?.aliases.find((alias) => alias.name === LIVE);
    if (live?.targets.length === 1 && live.targets[0]?.deployment === deploymentId) return live;
    const newer = live?.targets.find((target) => target.deployment > deploymentId);
    if (newer) {
      throw new SkiffError(
        'CONFLICT',
        `a newer deployment of "${name}" (${newer.deployment}) went live while this one was built; this one was dropped`,
      );
    }
    try {
      return await store.setAlias(
        name,
        LIVE,
        [{ deployment: deploymentId, weight: 100 }],
        live?.version ?? 0,
      );
    } catch (error) {
      const isMoved = error instanceof SkiffError && error.code === 'CONFLICT';
      if (!isMoved || attempt >= ATTEMPTS_MAX) throw error;
    }
  }
}
