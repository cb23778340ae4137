/**
 * A schedule of a swarm, from its first tick on: the process that fires is killed meanwhile, and each tick is fired once
 * and run once. It expects a function `echo`, and that nothing else is accepted meanwhile.
 */
import { expect } from 'vitest';
import type { Host } from './hosts.ts';
import { waitFor } from './wait.ts';

const NAME = 'every-second';

/** `managers` run the events role; the first one is asked. */
export async function expectTicksOnce(managers: readonly [Host, Host]): Promise<void> {
  const [asked, other] = managers;
  const { schedules } = other.client;
  const count = async (name: string) => (await asked.client.eventStats()).counters[name] ?? 0;
  const before = { succeeded: await count('succeeded'), accepted: await count('accepted') };
  const began = performance.now();
  await schedules.put(NAME, { function: 'echo', cron: '* * * * * *', overlap: 'allow' });
  try {
    await waitFor('ticks', async () => (await schedules.get(NAME)).fired >= 2);
    const leads = (host: Host) => host.log('events').includes('this process fires schedules now');
    process.kill((leads(asked) ? asked : other).pid('events'), 'SIGKILL');
    const { fired } = await schedules.get(NAME);
    await waitFor('ticks go on', async () => (await schedules.get(NAME)).fired >= fired + 3, 30_000);
  } finally {
    await schedules.pause(NAME);
  }
  const { fired } = await schedules.get(NAME);
  // Two that fire would be ahead of the clock.
  expect(fired).toBeLessThanOrEqual((performance.now() - began) / 1_000 + 1);
  await waitFor('all have run', async () => (await count('succeeded')) - before.succeeded === fired, 30_000);
  expect((await count('accepted')) - before.accepted).toBe(fired);
  await schedules.remove(NAME);
}
