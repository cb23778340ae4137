/**
 * Takes a release back when its errors jump: the share of failed calls of the newest deployment is compared with that
 * of the one before it, for a few minutes after an alias moved and for as long as it has two targets.
 * Invariants: only ever back to an older deployment, so nothing swings; by compare-and-set of the alias as it was
 * judged, so a person or another gateway that was quicker wins. Each gateway judges by the calls it saw itself.
 * Deliberately absent: health checks before a release is live (the builder starts every deployment first).
 */
import type { FunctionStore, RouteEntry } from '../../infra/catalog/functions.ts';
import type { Log } from '../../infra/lib/log.ts';
import type { Deployment } from '../../sdk/protocol/api.ts';
import { ERRORS, type FailureCause, SkiffError } from '../../sdk/protocol/errors.ts';

export interface ReleaseWatchOptions {
  readonly store: Pick<FunctionStore, 'setAlias' | 'getDeployment'>;
  readonly getRoute: (name: string) => Promise<RouteEntry | undefined>;
  readonly log: Log;
}

interface Tally {
  readonly id: string;
  calls: number;
  failed: number;
  lastMs: number;
}

/** Fewer calls than this prove nothing. */
const CALLS_MIN = 20;
/** How long after it moved an alias of one deployment is watched. */
const WATCHED_MS = 300_000;
/** Older calls count half, again and again, so that a tally speaks of the last ones. */
const CALLS_HALVED_AT = 1_000;
const FUNCTIONS_MAX = 10_000;
const DEPLOYMENTS_MAX = 4;
const FUNCTION_FAULTS: ReadonlySet<FailureCause> = new Set(
  Object.values(ERRORS).flatMap((row) => ('cause' in row && row.fault === 'function' ? [row.cause] : [])),
);

export class ReleaseWatch {
  readonly #options: ReleaseWatchOptions;
  readonly #tallies = new Map<string, Tally[]>();
  readonly #judging = new Set<string>();

  constructor(options: ReleaseWatchOptions) {
    this.#options = options;
  }

  /** Every call that ended. `status` is what the function answered, if it did. */
  note(deployment: Deployment, cause: FailureCause | undefined, status: number): void {
    const tally = this.#tally(deployment);
    const isFailed = cause === undefined ? status >= 500 : FUNCTION_FAULTS.has(cause);
    if (!isFailed && cause !== undefined) return;
    if (++tally.calls >= CALLS_HALVED_AT) {
      tally.calls /= 2;
      tally.failed /= 2;
    }
    tally.lastMs = Date.now();
    if (!isFailed) return;
    tally.failed++;
    const { rollbackAt } = deployment.config;
    if (rollbackAt === 0 || tally.calls < CALLS_MIN || shareOf(tally) < rollbackAt) return;
    void this.#judge(deployment.functionName);
  }

  #tally({ functionName, id }: Deployment): Tally {
    let tallies = this.#tallies.get(functionName);
    if (!tallies) {
      if (this.#tallies.size >= FUNCTIONS_MAX) this.#tallies.clear();
      this.#tallies.set(functionName, (tallies = []));
    }
    let tally = tallies.find((each) => each.id === id);
    if (!tally) {
      tallies.unshift((tally = { id, calls: 0, failed: 0, lastMs: 0 }));
      tallies.length = Math.min(tallies.length, DEPLOYMENTS_MAX);
    }
    return tally;
  }

  async #judge(name: string): Promise<void> {
    if (this.#judging.has(name)) return;
    this.#judging.add(name);
    const { getRoute, log } = this.#options;
    try {
      const route = await getRoute(name);
      if (route) await this.#judgeRoute(route);
    } catch (error) {
      const isMoved = error instanceof SkiffError && error.code === 'CONFLICT';
      if (!isMoved) log.warn({ error, function: name }, 'a release could not be judged');
    } finally {
      this.#judging.delete(name);
    }
  }

  async #judgeRoute({ name, alias, targets }: RouteEntry): Promise<void> {
    const newest = targets.map(({ deployment }) => deployment).toSorted((a, b) => (a.id < b.id ? 1 : -1))[0];
    if (!newest || (targets.length === 1 && Date.now() - alias.updatedMs > WATCHED_MS)) return;
    const tallies = this.#tallies.get(name) ?? [];
    const tally = tallies.find(({ id }) => id === newest.id);
    const before = this.#findBefore(targets, tallies, newest.id);
    if (!tally || tally.calls < CALLS_MIN || before === undefined) return;
    const usual = tallies.find(({ id }) => id === before);
    if (shareOf(tally) - (usual ? shareOf(usual) : 0) < newest.config.rollbackAt) return;
    if (!(await this.#options.store.getDeployment(before))) return;
    await this.#options.store.setAlias(
      name,
      alias.name,
      [{ deployment: before, weight: 100 }],
      alias.version,
    );
    this.#options.log.warn(
      { function: name, from: newest.id, to: before, failedPercent: Math.round(shareOf(tally)) },
      'a release was taken back: its errors jumped',
    );
  }

  /** The other target, or else the older deployment that was called last. */
  #findBefore(targets: RouteEntry['targets'], tallies: readonly Tally[], newest: string): string | undefined {
    const other = targets.find(({ deployment }) => deployment.id !== newest);
    if (other) return other.deployment.id;
    const older = tallies.filter(({ id, calls }) => id < newest && calls > 0);
    return older.toSorted((a, b) => b.lastMs - a.lastMs)[0]?.id;
  }
}

/** In percent. */
function shareOf({ calls, failed }: Tally): number {
  return calls === 0 ? 0 : (failed / calls) * 100;
}
