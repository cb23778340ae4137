/**
 * Moves a durable store that nobody uses into an empty one with another number of cells.
 * Invariant: at every moment exactly one of the two takes events, or none: the source is closed first, the target opened
 * when it has everything. A move that was cut off is run again, or given up; the source keeps all it had either way.
 */
import type { Redis } from 'ioredis';
import { Cells, CELLS_MAX } from '../../contract/cells.ts';
import { durable, swarm } from '../../contract/keys.ts';
import { CELLS_OF_A_MOVE } from '../../lib/layout.ts';
import { primariesOf } from '../../lib/redis-cluster.ts';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { clear, copy, findRoutes, scanKeys, type Copied } from './copy.ts';

/** In both stores, from the first write of a move on. */
interface Mark {
  readonly role: 'source' | 'target';
  readonly state: 'moving' | 'moved';
  readonly epoch: string;
  /** Cells of the source. */
  readonly was: number;
  readonly cells: number;
}

export interface MoveOptions {
  readonly source: Redis;
  readonly target: Redis;
  readonly cells: number;
  note(text: string): void;
}

/** What connections of a move are called, so that it does not take itself for somebody who uses the store. */
export const MOVER = 'skiff-cells';

/** @throws SkiffError CONFLICT for stores that are used, not empty, or have what cannot be moved */
export async function moveStore(options: MoveOptions): Promise<Copied | 'moved before'> {
  const { source, target, cells, note } = options;
  if (!Number.isInteger(cells) || cells < 1 || cells > CELLS_MAX)
    throw new SkiffError('INVALID_CONFIG', `a store has 1 to ${CELLS_MAX} cells, "${cells}" says otherwise`);
  const epoch = await source.get(durable.epoch);
  if (epoch === null)
    throw new SkiffError(
      'CONFLICT',
      'the store that is to be moved is empty: start the server with the new settings',
    );
  const mark = await readMark(source);
  const was = mark?.was ?? Number((await source.get(durable.cells)) ?? 1);
  if (await isComplete(target, epoch, cells))
    return finish(options, { role: 'source', state: 'moved', epoch, was, cells });
  if (mark?.state === 'moved')
    throw new SkiffError(
      'CONFLICT',
      `the store was moved to ${mark.cells} cells before, and not to this target`,
    );
  await assertUnused(source);
  await assertAlone(source);
  const stores = { source, from: new Cells(was), target, to: new Cells(cells) };
  await assertFree(target, epoch);
  const found = await findRoutes(stores);
  await write(source, { role: 'source', state: 'moving', epoch, was, cells });
  await clear(target);
  await write(target, { role: 'target', state: 'moving', epoch, was, cells });
  // Whoever opened the store before it was closed.
  await assertUnused(source);
  note(`${found.length} keys to ${cells} cells`);
  let told = Date.now();
  const copied = await copy(stores, found, (done) => {
    if (Date.now() - told < 2_000) return;
    told = Date.now();
    note(`${done} of ${found.length} keys`);
  });
  await verify(stores, found.length);
  await target.set(durable.epochIsEverywhere, 1);
  await target.del(durable.moved);
  await target.set(durable.cells, cells);
  await finish(options, { role: 'source', state: 'moved', epoch, was, cells });
  return copied;
}

/** Gives a move up that was cut off: the source is used as before. @throws SkiffError CONFLICT once it is complete */
export async function abortMove({ source, target, cells }: Omit<MoveOptions, 'note'>): Promise<void> {
  const mark = await readMark(source);
  if (!mark) throw new SkiffError('CONFLICT', 'no move was begun that could be given up');
  if (mark.state === 'moved' || (await isComplete(target, mark.epoch, cells)))
    throw new SkiffError(
      'CONFLICT',
      'the move is complete: the other store may have taken events since, so this one stays closed',
    );
  await assertFree(target, mark.epoch);
  await clear(target);
  if (mark.was === 1) await source.del(durable.cells);
  else await source.set(durable.cells, mark.was);
  await source.del(durable.moved);
}

async function readMark(redis: Redis): Promise<Mark | undefined> {
  const json = await redis.get(durable.moved);
  return json === null ? undefined : (JSON.parse(json) as Mark);
}

async function write(redis: Redis, mark: Mark): Promise<void> {
  await redis.set(durable.cells, CELLS_OF_A_MOVE);
  await redis.set(durable.moved, JSON.stringify(mark));
}

async function finish({ source }: MoveOptions, mark: Mark): Promise<'moved before'> {
  await write(source, mark);
  return 'moved before';
}

async function isComplete(target: Redis, epoch: string, cells: number): Promise<boolean> {
  const [held, count] = [await target.get(durable.epoch), await target.get(durable.cells)];
  return held === epoch && Number(count ?? 1) === cells && (await readMark(target)) === undefined;
}

/** Empty, or left by an earlier attempt of this very move. */
async function assertFree(target: Redis, epoch: string): Promise<void> {
  const mark = await readMark(target);
  if (mark?.role === 'target' && mark.epoch === epoch) return;
  for await (const [key] of scanKeys(target, new Cells(CELLS_MAX)))
    throw new SkiffError(
      'CONFLICT',
      `the store that is to be moved to has data of Skiff (${key}): give an empty one`,
    );
}

/** Connections of gateways and runners would go on writing what is copied. */
async function assertUnused(source: Redis): Promise<void> {
  const others: string[] = [];
  for (const primary of primariesOf(source)) {
    const text = String(await primary.call('CLIENT', 'LIST'));
    for (const line of text.split('\n')) {
      const field = (name: string): string => new RegExp(`(?:^| )${name}=(\\S*)`).exec(line)?.[1] ?? '';
      // Replicas, and a primary that is followed, are no users.
      if (line === '' || /[SM]/.test(field('flags')) || field('name') === MOVER) continue;
      // What ioredis opens beside the connections of a cluster, ours too.
      if (field('name').startsWith('ioredis-cluster')) continue;
      others.push(`${field('addr')} ${field('name')}`.trim());
    }
  }
  if (others.length > 0)
    throw new SkiffError(
      'CONFLICT',
      `the store is used by ${others.length} connections (${others.slice(0, 3).join(', ')}): stop every server and close other clients first`,
    );
}

/** Other nodes were told where the stores are when they joined. */
async function assertAlone(source: Redis): Promise<void> {
  const members = Object.values(await source.hgetall(swarm.members)).map(
    (json) => JSON.parse(json) as { hostname: string; redisPasswordHash?: string },
  );
  const others = members.filter(({ redisPasswordHash }) => redisPasswordHash !== undefined);
  if (others.length > 0)
    throw new SkiffError(
      'CONFLICT',
      `${others.map(({ hostname }) => hostname).join(', ')} joined this swarm and know its old store: take them out (skiff node rm), and let them join again when the move is over`,
    );
}

async function verify(
  { source, from, target, to }: { source: Redis; from: Cells; target: Redis; to: Cells },
  keys: number,
): Promise<void> {
  const count = async (redis: Redis, cells: Cells): Promise<number> => {
    let sum = 0;
    for (const { events } of cells.all) {
      const counts = await redis.hvals(events.unfinished);
      sum += counts.reduce((total, each) => total + Number(each), await redis.zcard(events.expiry));
    }
    return (
      sum +
      (await redis.zcard(durable.functions)) +
      (await redis.hlen(durable.secrets)) +
      (await redis.hlen(durable.tokens))
    );
  };
  const [before, after] = [await count(source, from), await count(target, to)];
  if (before !== after)
    throw new SkiffError(
      'INTERNAL',
      `of ${keys} keys not all arrived (${after} of ${before} entries); run the move again`,
    );
}
