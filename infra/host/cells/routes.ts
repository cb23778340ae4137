/**
 * Where each key of a durable store goes when the number of cells changes: one rule for every name in infra/contract/keys.ts, so
 * that a key that is added there without one does not compile. Pure.
 * Invariant: a key for which there is no rule is reported, never left behind.
 */
import type { Cell, Cells } from '../../contract/cells.ts';
import {
  durable,
  eventKeys,
  fast,
  fastKeys,
  payloadBlobs,
  swarm,
  type EventKeys,
  type FastKeys,
} from '../../contract/keys.ts';

export type Route =
  /** Not promised to anyone, or made anew by whoever needs it. */
  | { readonly kind: 'left' }
  /** As it is, with the tag of this cell. */
  | { readonly kind: 'whole'; readonly cell: Cell; readonly isRecord?: boolean }
  /** As it is, in every cell. */
  | { readonly kind: 'everywhere' }
  /** Each member (or field) where it belongs; undefined: in every cell. */
  | { readonly kind: 'split'; cellOf(member: string, value: string): Cell | undefined }
  | { readonly kind: 'counters' };

/** By the rest of the key, behind what all keys of this name begin with. */
type Rule = (rest: string) => Route;

const LEFT: Route = { kind: 'left' };
const EVERYWHERE: Route = { kind: 'everywhere' };

export interface Router {
  /** Undefined: nobody knows this key. `suffix`: without its hash tag. */
  route(suffix: string): Route | undefined;
}

/** `functionOf`: the function that a schedule runs. */
export function createRouter(cells: Cells, functionOf: (schedule: string) => string): Router {
  const rules = new Map<string, { isExact: boolean; rule: Rule }>();
  const add = (names: Readonly<Record<string, unknown>>, ruleOf: (name: string) => Rule): void => {
    for (const [name, key] of Object.entries(names)) {
      const isExact = typeof key === 'string';
      const full = isExact ? key : (key as (part: string) => string)('');
      rules.set(full.replace(/^\{[^}]*\}/, ''), { isExact, rule: ruleOf(name) });
    }
  };
  const home: Rule = () => ({ kind: 'whole', cell: cells.first });
  add(fast, () => () => LEFT);
  add(fastKeys('') satisfies FastKeys, () => () => LEFT);
  add({ ...durable, ...swarm, payloadBlobs }, () => home);
  add(
    {
      cells: durable.cells,
      everywhere: durable.epochIsEverywhere,
      moved: durable.moved,
      lock: durable.collecting,
    },
    () => () => LEFT,
  );
  const own = eventRules(cells, functionOf);
  add(eventKeys(''), (name) => own[name as keyof EventKeys]);

  return {
    route(suffix) {
      // BullMQ's own: of events, whose jobs are made anew from their records, and of what has no cell.
      if (/^:bull:events-\d+:/.test(suffix)) return LEFT;
      if (/^:(bull|destinations):/.test(suffix)) return home(suffix);
      const exact = rules.get(suffix);
      if (exact?.isExact) return exact.rule('');
      // The longest that fits: `fn:` has names of functions behind it, and so has `fn:<name>:aliases`.
      for (let end = suffix.lastIndexOf(':'); end >= 0; end = suffix.lastIndexOf(':', end - 1)) {
        const found = rules.get(suffix.slice(0, end + 1));
        if (found && !found.isExact) return found.rule(suffix.slice(end + 1));
        if (end === 0) break;
      }
      return undefined;
    },
  };
}

function eventRules(cells: Cells, functionOf: (schedule: string) => string): Record<keyof EventKeys, Rule> {
  const ofId: Rule = (id) => ({ kind: 'whole', cell: cells.ofId(id) });
  const ofFunction: Rule = (name) => ({ kind: 'whole', cell: cells.ofFunction(name) });
  /** `function/hash`. */
  const ofScope: Rule = (scope) => ofFunction(scope.slice(0, scope.lastIndexOf('/')));
  const split = (cellOf: (member: string, value: string) => Cell | undefined): Rule => {
    const route: Route = { kind: 'split', cellOf };
    return () => route;
  };
  const ids = split((id) => cells.ofId(id));
  const functions = split((name) => (name === '*' ? undefined : cells.ofFunction(name)));
  const schedules = split((name) => cells.ofFunction(functionOf(name)));
  const [left, everywhere]: Rule[] = [() => LEFT, () => EVERYWHERE] as [Rule, Rule];
  return {
    epoch: everywhere,
    bullPrefix: left,
    record: (id) => ({ kind: 'whole', cell: cells.ofId(id), isRecord: true }),
    request: ofId,
    result: ofId,
    steps: ofId,
    sleeping: ofId,
    waiters: split((member) => cells.ofId(member.split(' ')[0] as string)),
    kept: everywhere,
    keptBytes: everywhere,
    ended: left,
    room: ofFunction,
    window: ofFunction,
    space: ids,
    held: functions,
    line: ofScope,
    limits: functions,
    groupEnds: split((member) => cells.ofId(member.split(' ')[1] as string)),
    rooms: functions,
    throttled: functions,
    rate: ofFunction,
    due: ids,
    leases: ids,
    expiry: ids,
    unfinished: functions,
    stats: () => ({ kind: 'counters' }),
    dead: ids,
    schedules,
    schedule: (name) => ofFunction(functionOf(name)),
    nextTicks: schedules,
    pendingTicks: schedules,
    scheduler: left,
    schedulerFence: everywhere,
    outbox: ids,
    cancels: left,
    idempotency: ofScope,
  };
}
