/** `skiff service`: the options that say where replicas run and how they are replaced. */
import { type Command, Option } from '@commander-js/extra-typings';
import type { ServiceState, ServiceUpdate } from '../../../client/index.ts';
import { collect, parseCount, parseDuration } from '../../options/parse.ts';

const ORDERS = ['start-first', 'stop-first'] as const;

/** Options that create and update share. */
export function addPolicyOptions(command: Command) {
  return command
    .option(
      '--constraint <expression>',
      'of the nodes, for example node.labels.zone==a; may be repeated',
      collect,
    )
    .option(
      '--placement-pref <preference>',
      'for example spread=node.labels.zone: as many in each zone; may be repeated',
      collect,
    )
    .option('--replicas-max-per-node <count>', 'at most this many on one node (0: no limit)', parseCount)
    .option('--update-parallelism <count>', 'replicas replaced at a time (default: 1; 0: all)', parseCount)
    .option('--update-delay <duration>', 'between two (default: 0s)', parseDuration)
    .option('--update-monitor <duration>', 'how long a new replica is watched (default: 5s)', parseDuration)
    .addOption(
      new Option('--update-order <order>', 'which comes first (default: start-first)').choices(ORDERS),
    )
    .addOption(
      new Option('--update-failure-action <action>', 'when a new replica fails (default: rollback)').choices([
        'pause',
        'continue',
        'rollback',
      ] as const),
    )
    .option('--rollback-parallelism <count>', 'on the way back, as for an update', parseCount)
    .option('--rollback-delay <duration>', 'on the way back, as for an update', parseDuration)
    .option('--rollback-monitor <duration>', 'on the way back, as for an update', parseDuration)
    .addOption(new Option('--rollback-order <order>', 'on the way back, as for an update').choices(ORDERS))
    .addOption(
      new Option(
        '--rollback-failure-action <action>',
        'when the way back fails, too (default: pause)',
      ).choices(['pause', 'continue'] as const),
    )
    .option('-d, --detach', 'do not wait until it is so')
    .option('--json', 'print the service');
}

export type PolicyOptions = ReturnType<ReturnType<typeof addPolicyOptions>['opts']>;

/** Of update alone: what is added to, or taken from, what there is. */
export function addListOptions(command: Command) {
  return command
    .option('--constraint-add <expression>', 'one more; may be repeated', collect)
    .option('--constraint-rm <expression>', 'one less; may be repeated', collect)
    .option('--placement-pref-add <preference>', 'one more; may be repeated', collect)
    .option('--placement-pref-rm <preference>', 'one less; may be repeated', collect);
}

type ServiceSpec = ServiceState['service']['spec'];
export type ListOptions = ReturnType<ReturnType<typeof addListOptions>['opts']>;

export function readPolicy(
  options: PolicyOptions,
): Pick<ServiceUpdate, 'constraints' | 'preferences' | 'replicasMaxPerNode' | 'update' | 'rollback'> {
  return withoutUndefined({
    constraints: options.constraint,
    preferences: options.placementPref,
    replicasMaxPerNode: options.replicasMaxPerNode,
    update: unlessEmpty({
      parallelism: options.updateParallelism,
      delayMs: options.updateDelay,
      monitorMs: options.updateMonitor,
      order: options.updateOrder,
      failureAction: options.updateFailureAction,
    }),
    rollback: unlessEmpty({
      parallelism: options.rollbackParallelism,
      delayMs: options.rollbackDelay,
      monitorMs: options.rollbackMonitor,
      order: options.rollbackOrder,
      failureAction: options.rollbackFailureAction,
    }),
  });
}

/** Undefined when nothing is added or taken. */
export function readLists(
  options: ListOptions,
): ((spec: ServiceSpec) => Pick<ServiceUpdate, 'constraints' | 'preferences'>) | undefined {
  const { constraintAdd, constraintRm, placementPrefAdd, placementPrefRm } = options;
  if (!constraintAdd && !constraintRm && !placementPrefAdd && !placementPrefRm) return undefined;
  return ({ constraints, preferences }) => ({
    constraints: change(constraints, constraintAdd, constraintRm),
    preferences: change(preferences, placementPrefAdd, placementPrefRm),
  });
}

/** Spaces do not count: `node.labels.zone == a` is what is kept as `node.labels.zone==a`. */
function change(
  kept: readonly string[],
  added: readonly string[] = [],
  removed: readonly string[] = [],
): string[] {
  const bare = (text: string): string => text.replaceAll(/\s/g, '');
  const gone = new Set(removed.map(bare));
  return [...new Set([...kept, ...added])].filter((one) => !gone.has(bare(one)));
}

function unlessEmpty<T extends Record<string, unknown>>(value: T): Defined<T> | undefined {
  const kept = withoutUndefined(value);
  return Object.keys(kept).length === 0 ? undefined : kept;
}

type Defined<T> = { [Name in keyof T]: Exclude<T[Name], undefined> };

export function withoutUndefined<T extends Record<string, unknown>>(value: T): Defined<T> {
  const kept = Object.entries(value).filter(([, one]) => one !== undefined);
  return Object.fromEntries(kept) as Defined<T>;
}
