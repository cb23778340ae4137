/**
 * Copies a durable store into another one that has other cells. Nothing of the source is changed, and running it again
 * begins anew: whoever calls makes sure that nobody uses either store.
 */
import type { Redis } from 'ioredis';
import type { Cells } from '../../contract/cells.ts';
import { eventKeys } from '../../contract/keys.ts';
import { primariesOf } from '../../lib/redis-cluster.ts';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { createRouter, type Route, type Router } from './routes.ts';

export interface Copied {
  readonly keys: number;
  readonly invocations: number;
}

export interface Stores {
  readonly source: Redis;
  readonly from: Cells;
  readonly target: Redis;
  readonly to: Cells;
}

interface Found {
  readonly key: string;
  readonly suffix: string;
  readonly route: Route;
}

const PAGE = 500;
const SHOWN = 5;
const FINAL: ReadonlySet<string> = new Set(['succeeded', 'dead', 'expired', 'cancelled']);

/** Of all its servers. */
export async function* scanKeys(redis: Redis, cells: Cells): AsyncGenerator<string[]> {
  const tags = new Set(cells.all.map(({ tag }) => tag));
  for (const primary of primariesOf(redis)) {
    let cursor = '0';
    do {
      const [next, keys] = await primary.scan(cursor, 'MATCH', '{skiff*', 'COUNT', PAGE);
      cursor = next;
      const own = keys.filter((key) => tags.has(key.slice(0, key.indexOf('}') + 1)));
      if (own.length > 0) yield own;
    } while (cursor !== '0');
  }
}

const untag = (key: string): string => key.slice(key.indexOf('}') + 1);

/** Which keys there are and where each goes. @throws SkiffError CONFLICT for what cannot be moved */
export async function findRoutes({
  source,
  from,
  to,
}: Pick<Stores, 'source' | 'from' | 'to'>): Promise<Found[]> {
  const schedules = new Map<string, string>();
  for (const { events } of from.all)
    for (const [name, json] of Object.entries(await source.hgetall(events.schedules)))
      schedules.set(name, (JSON.parse(json) as { function: string }).function);
  // What is left of a schedule that was removed is nobody's: it goes where its name would.
  const router: Router = createRouter(to, (name) => schedules.get(name) ?? name);
  const found = new Map<string, Found>();
  const unknown: string[] = [];
  for await (const keys of scanKeys(source, from))
    for (const key of keys) {
      const route = router.route(untag(key));
      if (route) found.set(key, { key, suffix: untag(key), route });
      else unknown.push(key);
    }
  refuse(unknown, 'keys of a release that this one does not know', 'move with the release that wrote them');
  await assertPlaced(source, [...found.values()], to);
  return [...found.values()];
}

/** An unfinished invocation needs what its function has, so both must come to the same cell. */
async function assertPlaced(source: Redis, found: readonly Found[], to: Cells): Promise<void> {
  if (to.count === 1) return;
  const prefix = untag(eventKeys('').record(''));
  const misplaced: string[] = [];
  for (const part of pages(found.filter(({ route }) => route.kind === 'whole' && route.isRecord)))
    await Promise.all(
      part.map(async ({ key, suffix }) => {
        const [state, name] = await source.hmget(key, 's', 'fn');
        const id = suffix.slice(prefix.length);
        const isStray = to.ofId(id) !== to.ofFunction(name ?? '');
        if (state && !FINAL.has(state) && isStray) misplaced.push(id);
      }),
    );
  refuse(
    misplaced,
    'unfinished invocations whose ids do not say their function',
    'let them end first, or cancel them',
  );
}

function refuse(items: readonly string[], what: string, remedy: string): void {
  if (items.length === 0) return;
  const more = items.length > SHOWN ? ', …' : '';
  throw new SkiffError(
    'CONFLICT',
    `the store has ${items.length} ${what} (${items.slice(0, SHOWN).join(', ')}${more}); ${remedy}`,
  );
}

/** Removes all that is Skiff's, whatever its cells. */
export async function clear(redis: Redis): Promise<void> {
  for (const primary of primariesOf(redis)) {
    let cursor = '0';
    do {
      const [next, keys] = await primary.scan(cursor, 'MATCH', '{skiff*', 'COUNT', PAGE);
      cursor = next;
      await Promise.all(keys.map((key) => redis.unlink(key)));
    } while (cursor !== '0');
  }
}

/** `note` is told how far it is. */
export async function copy(
  stores: Stores,
  found: readonly Found[],
  note: (done: number) => void,
): Promise<Copied> {
  let [done, invocations] = [0, 0];
  for (const part of pages(found)) {
    await Promise.all(part.map((one) => copyOne(stores, one)));
    done += part.length;
    invocations += part.filter(({ route }) => route.kind === 'whole' && route.isRecord).length;
    note(done);
  }
  await countBytes(stores, found);
  return { keys: done, invocations };
}

function* pages<Item>(items: readonly Item[]): Generator<readonly Item[]> {
  for (let i = 0; i < items.length; i += PAGE) yield items.slice(i, i + PAGE);
}

async function copyOne(stores: Stores, { key, suffix, route }: Found): Promise<void> {
  const { to } = stores;
  switch (route.kind) {
    case 'left':
      return;
    case 'whole': {
      await restore(stores, key, [`${route.cell.tag}${suffix}`]);
      if (route.isRecord) await pointToGroup(stores, key, `${route.cell.tag}${suffix}`, suffix);
      return;
    }
    case 'everywhere':
      return restore(
        stores,
        key,
        to.all.map(({ tag }) => `${tag}${suffix}`),
      );
    case 'split':
      return split(stores, key, suffix, route);
    case 'counters':
      return addCounters(stores, key, suffix);
  }
}

/** With what is left of its life. */
async function restore({ source, target }: Stores, key: string, places: readonly string[]): Promise<void> {
  const [dump, ttl] = await Promise.all([source.dumpBuffer(key), source.pttl(key)]);
  // It ended its life meanwhile.
  if (dump === null || ttl === -2) return;
  try {
    for (const place of places) await target.restore(place, Math.max(0, ttl), dump, 'REPLACE');
  } catch (error) {
    if (!/DUMP payload version/.test(String(error))) throw error;
    throw new SkiffError(
      'CONFLICT',
      'the Redis that is moved to is older than the one that is moved from; update it first',
    );
  }
}

/** Who waits for a group is told otherwise when it is in another cell. */
async function pointToGroup(
  { source, target, to }: Stores,
  key: string,
  place: string,
  suffix: string,
): Promise<void> {
  const group = await source.hget(key, 'grp');
  if (!group) return;
  const follower = group.replace(/^@/, '');
  const id = suffix.slice(untag(eventKeys('').record('')).length);
  await target.hset(place, 'grp', to.ofId(follower) === to.ofId(id) ? follower : `@${follower}`);
}

async function split(
  { source, target, to }: Stores,
  key: string,
  suffix: string,
  route: Route & { kind: 'split' },
): Promise<void> {
  const type = await source.type(key);
  const isSet = type === 'set';
  let cursor = '0';
  do {
    const [next, flat] =
      type === 'zset'
        ? await source.zscan(key, cursor, 'COUNT', PAGE)
        : type === 'hash'
          ? await source.hscan(key, cursor, 'COUNT', PAGE)
          : await source.sscan(key, cursor, 'COUNT', PAGE);
    cursor = next;
    const parts = new Map<string, string[]>();
    for (let i = 0; i < flat.length; i += isSet ? 1 : 2) {
      const member = flat[i] as string;
      const value = isSet ? '' : (flat[i + 1] as string);
      const cell = route.cellOf(member, value);
      for (const { tag } of cell ? [cell] : to.all) {
        const part = parts.get(tag) ?? [];
        parts.set(tag, part);
        part.push(...(isSet ? [member] : type === 'zset' ? [value, member] : [member, value]));
      }
    }
    for (const [tag, part] of parts) {
      const place = `${tag}${suffix}`;
      if (type === 'zset') await target.zadd(place, ...part);
      else if (type === 'hash') await target.hset(place, ...part);
      else await target.sadd(place, ...part);
    }
  } while (cursor !== '0');
  const ttl = await source.pttl(key);
  if (ttl > 0) for (const { tag } of to.all) await target.pexpire(`${tag}${suffix}`, ttl);
}

/** Numbers that are given out go on in each cell from where the highest was; what was counted is added up in the first. */
const GIVEN_OUT: ReadonlySet<string> = new Set(['seq', 'jobs', 'signals']);

async function addCounters({ source, target, to }: Stores, key: string, suffix: string): Promise<void> {
  for (const [field, text] of Object.entries(await source.hgetall(key))) {
    if (field === 'bytes') continue;
    if (!GIVEN_OUT.has(field)) {
      await target.hincrby(`${to.first.tag}${suffix}`, field, text);
      continue;
    }
    for (const { tag } of to.all) {
      const place = `${tag}${suffix}`;
      const known = Number((await target.hget(place, field)) ?? 0);
      if (Number(text) > known) await target.hset(place, field, text);
    }
  }
}

/** What unfinished invocations take of the store, which each cell limits. */
async function countBytes({ source, target }: Stores, found: readonly Found[]): Promise<void> {
  const bytes = new Map<string, number>();
  for (const part of pages(found))
    await Promise.all(
      part.map(async ({ key, route }) => {
        if (route.kind !== 'whole' || !route.isRecord) return;
        const [state, by] = await source.hmget(key, 's', 'by');
        if (!state || FINAL.has(state)) return;
        const { stats } = route.cell.events;
        bytes.set(stats, (bytes.get(stats) ?? 0) + Number(by ?? 0));
      }),
    );
  for (const [stats, sum] of bytes) await target.hset(stats, 'bytes', sum);
}
