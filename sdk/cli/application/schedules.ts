/**
 * Schedules of an application: `x-skiff-function.schedule`. Invariant: only schedules that carry the name of a member
 * and `-cron` are the application's; others, made by hand for the same function, are left alone until that is removed.
 */
import type { Schedule } from '../../client/index.ts';
import type { FunctionWish, ScheduleWish } from '../../compose/function-wish.ts';
import type { CliClient } from '../connection/server.ts';
import type { Session } from '../session.ts';

export interface SchedulePlan {
  readonly name: string;
  readonly action: 'create' | 'update' | 'keep' | 'remove';
  readonly wish?: ScheduleWish & { readonly function: string };
}

export async function planSchedules(
  client: CliClient,
  wishes: readonly FunctionWish[],
  { signal }: Pick<Session, 'signal'>,
): Promise<SchedulePlan[]> {
  const known = await client.schedules.list({ signal });
  const plans: SchedulePlan[] = [];
  for (const { name: fn, schedules } of wishes) {
    const wanted = Object.entries(schedules).map(([key, wish]): [string, ScheduleWish] => [
      `${fn}-cron${key}`,
      wish,
    ]);
    for (const [name, wish] of wanted) {
      const record = known.find((one) => one.name === name);
      const action = record === undefined ? 'create' : isAs(record, fn, wish) ? 'keep' : 'update';
      plans.push({ name, action, wish: { ...wish, function: fn } });
    }
    const names = new Set(wanted.map(([name]) => name));
    const own = known.filter(({ name }) => name === `${fn}-cron` || name.startsWith(`${fn}-cron-`));
    for (const { name } of own) if (!names.has(name)) plans.push({ name, action: 'remove' });
  }
  return plans;
}

/** What is not said is the server's default, and counts as changed only when somebody changed it to something else. */
function isAs(record: Schedule, fn: string, wish: ScheduleWish): boolean {
  if (record.function !== fn) return false;
  const before = record as unknown as Readonly<Record<string, unknown>>;
  const timing = ['cron', 'every', 'at'].every((key) => key in wish === (before[key] !== undefined));
  return (
    timing &&
    Object.entries(wish).every(([key, value]) => JSON.stringify(before[key]) === JSON.stringify(value))
  );
}

export async function applySchedules(
  client: CliClient,
  plans: readonly SchedulePlan[],
  { signal }: Pick<Session, 'signal'>,
): Promise<void> {
  for (const { name, action, wish } of plans) {
    if (action === 'remove') await client.schedules.remove(name, { signal });
    else if (action !== 'keep' && wish) await client.schedules.put(name, wish, { signal });
  }
}
