/**
 * Whether the durable store is laid out for as many cells as this process counts. Invariant: the number is written once, into
 * an empty store, and whoever counts otherwise does nothing there: it would look for functions where they are not.
 */
import type { Redis } from 'ioredis';
import { durable } from '../contract/keys.ts';
import { cellsOf, defineScript } from './redis.ts';

const CHECK_MS = 5_000;
/** Instead of a number, in a store that is being moved to other cells or was left by a move: nobody counts like this. */
export const CELLS_OF_A_MOVE = 0;

/** Lays an empty store out. A text that says what is wrong, or undefined. */
export async function findForeignLayout(redis: Redis): Promise<string | undefined> {
  const { count } = cellsOf(redis);
  defineScript(redis, 'skiffPutCells', new URL('put-cells.lua', import.meta.url), 3);
  const { skiffPutCells } = redis as unknown as Record<string, (...args: string[]) => Promise<number>>;
  const keys = [durable.cells, durable.epoch, durable.functions];
  return describe(Number(await skiffPutCells?.call(redis, ...keys, String(count))), count);
}

/** Looks now and from time to time, only reads, and says once when it is laid out otherwise. Returns how to stop. */
export function followLayout(redis: Redis, onForeign: (problem: string) => void): () => void {
  const { count } = cellsOf(redis);
  const check = async (): Promise<void> => {
    const held = await redis.get(durable.cells);
    const problem = held === null ? undefined : describe(Number(held), count);
    if (problem === undefined) return;
    clearInterval(timer);
    onForeign(problem);
  };
  // A store that is away, or not ours to ask, is looked at again.
  const timer = setInterval(() => void check().catch(() => {}), CHECK_MS);
  timer.unref();
  void check().catch(() => {});
  return () => clearInterval(timer);
}

function describe(held: number, count: number): string | undefined {
  if (held === count) return undefined;
  if (held === CELLS_OF_A_MOVE)
    return 'the store is half of a move to other cells, or was left by one: go on with the one it was moved to, or see `skiff server cells --help`';
  return `the store is laid out for ${held} cells, and SKIFF_CELLS says ${count}: all processes must say the same, from the first start on`;
}
