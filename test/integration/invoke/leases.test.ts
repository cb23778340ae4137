import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Redis } from 'ioredis';
import { Leases } from '../../../gateway/invoke/leases.ts';
import { fast } from '../../helpers/keys.ts';
import { Dispatcher, formatToken } from '../../../infra/dispatch/dispatcher.ts';
import { openRedis } from '../../../infra/lib/redis.ts';
import { LEASE_MS } from '../../../sdk/protocol/limits.ts';
import { startRedis, type TestRedis } from '../../helpers/redis.ts';

const DEP = 'dep-1';

describe('leases of a gateway', () => {
  let server: TestRedis;
  let redis: Redis;
  let dispatcher: Dispatcher;
  let leases: Leases;

  beforeAll(async () => {
    server = await startRedis();
    redis = openRedis(server.url);
    await redis.connect();
    dispatcher = new Dispatcher(redis);
  });
  afterAll(async () => {
    redis.disconnect();
    await server.close();
  });
  beforeEach(async () => {
    await redis.flushall();
    await redis.set(fast.alive('r1'), 'e1');
    const tokens = Array.from({ length: 4 }, (_, slot) =>
      formatToken({ runner: 'r1', epoch: 'e1', sandbox: 's1', slot, generation: 0 }),
    );
    await dispatcher.offer(DEP, tokens);
    leases = new Leases(dispatcher, true);
  });
  afterEach(() => leases.close());

  const idle = (): Promise<number> => redis.llen(fast.idle(DEP));

  /** Calls that come one after the other until one gets a leased slot. */
  async function becomeHot(): Promise<string> {
    let token: string | undefined;
    await expect
      .poll(
        () => {
          token = leases.begin(DEP)?.token;
          if (token === undefined) leases.end(DEP, undefined, false);
          return token;
        },
        { interval: 5 },
      )
      .toBeDefined();
    return token as string;
  }

  it('a deployment that is called now and then stays with the queue', async () => {
    for (let i = 0; i < 2; i++) {
      expect(leases.begin(DEP)).toBeUndefined();
      leases.end(DEP, undefined, false);
    }
    expect(await idle()).toBe(4);
  });

  it('a hot one gets slots, which are out of the queue while they are leased', async () => {
    const token = await becomeHot();
    expect(await idle()).toBeLessThan(4);
    expect(await redis.zscore(fast.leases('r1'), token)).not.toBeNull();
    leases.end(DEP, token, false);
    expect(leases.begin(DEP)).toMatchObject({ token, runner: 'r1' });
  });

  it('slots that are not used go back', async () => {
    leases.end(DEP, await becomeHot(), false);
    await expect.poll(idle, { timeout: LEASE_MS * 2 }).toBe(4);
    expect(await redis.zcard(fast.leases('r1'))).toBe(0);
  });

  it('a slot in use is renewed past the first lease', async () => {
    const token = await becomeHot();
    const first = Number(await redis.zscore(fast.leases('r1'), token));
    await expect
      .poll(async () => Number(await redis.zscore(fast.leases('r1'), token)), { timeout: LEASE_MS })
      .toBeGreaterThan(first);
  });

  it('a slot is given back after its call when others wait', async () => {
    const token = await becomeHot();
    await redis.set(fast.alive('r1'), 'e1');
    await redis.del(fast.idle(DEP));
    const scaling = { deployment: DEP, concurrency: 4, max: 1, min: 0 };
    await dispatcher.dispatch(scaling, Buffer.from('waits'), {
      startByMs: Date.now() + 9_000,
      serviceMs: 0,
      coldMs: 1,
    });
    // The next renewal says no; the call that runs may end first.
    await new Promise((resolve) => setTimeout(resolve, LEASE_MS / 3 + 200));
    leases.end(DEP, token, false);
    await expect.poll(() => redis.llen(fast.inbox('r1')), { timeout: 3_000 }).toBe(1);
  });

  it('slots of a runner that is gone are not used again', async () => {
    leases.end(DEP, await becomeHot(), false);
    leases.forgetRunner('r1');
    expect(leases.begin(DEP)).toBeUndefined();
  });

  it('closing gives everything back', async () => {
    leases.end(DEP, await becomeHot(), false);
    await leases.close();
    expect(await idle()).toBe(4);
  });
});
