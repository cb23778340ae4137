/**
 * Hosts that are not dead but wrong: clocks minutes apart, a thin line, a line that works one way, a full disk, stores
 * or registry out of reach. And faults by chance: SWARM_ROUNDS of them (default 2), from the seed that is printed
 * (SWARM_SEED repeats one). Every call of a steady load is accounted for.
 */
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fast } from '../../helpers/keys.ts';
import { openRedis } from '../../../infra/lib/redis.ts';
import { functionFixture } from '../../helpers/fixtures.ts';
import { expectHonest } from '../../helpers/honest.ts';
import type { Host } from '../../helpers/hosts.ts';
import { more, startLoad } from '../../helpers/load.ts';
import { CALLERS, NOTICE_MS_MAX } from '../../helpers/swarm-hosts.ts';
import { ThreeHosts } from '../../helpers/three-hosts.ts';
import { waitFor } from '../../helpers/wait.ts';

const SKEW_MS = 90_000;
const DISK_MB = 1_200;
const MEMORY_BYTES = 1536 * 1024 ** 2;

describe('a swarm whose hosts are not well', () => {
  let hosts: ThreeHosts;
  let folder: string;
  let first: Host;
  let second: Host;
  let third: Host;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'skiff-runtime-'));
    const program = join(folder, 'crun');
    const script = `#!/bin/sh\n[ -e ${folder}/broken ] && { echo broken >&2; exit 1; }\nexec crun "$@"\n`;
    writeFileSync(program, script, { mode: 0o755 });
    const env = { SKIFF_RUNNER_MEMORY_BYTES: String(MEMORY_BYTES) };
    const own = { ...env, SKIFF_RUNTIME: program, SKIFF_RUNNER_PROBE_MS: '1000' };
    hosts = await ThreeHosts.start({
      first: { env },
      second: { env: own, clockSkewMs: SKEW_MS, diskMb: DISK_MB },
      third: { env, clockSkewMs: -SKEW_MS },
    });
    ({ first, second, third } = hosts);
  });
  afterAll(async () => {
    await hosts?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const rootfs = () => join(second.dataDir, 'runner', 'store', 'rootfs');
  const statusOf = async (host: Host) =>
    (await first.client.nodes()).find(({ id }) => id === host.nodeId)?.status;

  it('loses no call and times none out though their clocks are minutes apart', async () => {
    await hosts.moveTo(second);
    const load = startLoad(hosts.urls, CALLERS);
    await more(load, 100);
    // Calls that wait in the queue while a sandbox starts are judged by another host's clock.
    const fresh = `${third.url}/f/fresh?ms=20`;
    await first.deploy('fresh', functionFixture('echo.ts'), { concurrency: 1, max: 2, memory: '64MB' });
    const waited = await Promise.all(Array.from({ length: 12 }, () => fetch(fresh)));
    expect(waited.map(({ status }) => status)).toEqual(Array.from({ length: 12 }, () => 200));
    expectHonest(await load.stop(), 0);
  });

  it('goes on over a thin line, slower', async () => {
    await hosts.moveTo(second);
    const load = startLoad(hosts.urls, CALLERS);
    await more(load, 50);
    second.slowDown(2_000, 1_000);
    try {
      await more(load, 150);
      expect(await hosts.statusOf(second)).toBe('ready');
    } finally {
      second.speedUp();
    }
    expectHonest(await load.stop(), 0);
  });

  it.each([
    ['is heard by nobody', 'out'],
    ['hears nobody', 'in'],
  ] as const)('gives up a host that %s, and takes it back', async (_, direction) => {
    await hosts.moveTo(second);
    const load = startLoad(hosts.urls, CALLERS);
    await more(load, 50);
    second.cutOff([first.address, third.address], [], direction);
    try {
      await hosts.untilGivenUp(second);
      await more(load, 50);
    } finally {
      second.heal();
    }
    await hosts.untilUp(second);
    expectHonest(await load.stop(), CALLERS);
  });

  it('gives up a host that reaches gateways and no store', async () => {
    await hosts.moveTo(second);
    const load = startLoad(hosts.urls, CALLERS);
    await more(load, 50);
    second.cutOff([first.address], [7379, 7380]);
    try {
      await hosts.untilGivenUp(second);
      await more(load, 50);
    } finally {
      second.heal();
    }
    await hosts.untilUp(second);
    expectHonest(await load.stop(), CALLERS);
  });

  it('repeats a call that a store gave away to a line that was broken: it did not start', async () => {
    await hosts.moveTo(second);
    const redis = openRedis(`unix:${first.dataDir}/run/fast.sock`);
    await redis.connect();
    second.freeze();
    const isReading = (client: string) =>
      client.includes(`user=${second.nodeId} `) && /flags=\w*b.*cmd=blmpop/.test(client);
    try {
      await waitFor(
        'nobody reads its inbox',
        async () =>
          !String(await redis.client('LIST'))
            .split('\n')
            .some(isReading),
      );
      const answer = fetch(hosts.urls[0] as string);
      await waitFor(
        'it is sent, and lost',
        async () => (await redis.lpop(fast.inbox(second.nodeId))) !== null,
      );
      second.thaw();
      const started = performance.now();
      expect((await answer).status).toBe(200);
      expect(performance.now() - started).toBeLessThan(NOTICE_MS_MAX);
    } finally {
      second.thaw();
      redis.disconnect();
    }
  });

  it('repeats a call that waited and was given away with a slot that nobody heard of, and says at once when its host died', async () => {
    await first.deploy('single', functionFixture('behaviour.ts'), {
      concurrency: 1,
      max: 1,
      memory: '64MB',
    });
    const deployment = (await fetch(`${first.url}/f/single/slow?ms=1`)).headers.get(
      'skiff-deployment',
    ) as string;
    const redis = openRedis(`unix:${first.dataDir}/run/fast.sock`);
    await redis.connect();
    /** A second call, taken out of the queue for a slot of this runner; its answer. */
    async function loseCall(runner: string, epoch: string): Promise<{ status: number; ms: number }> {
      const busy = fetch(`${first.url}/f/single/slow?ms=3000`);
      await waitFor('it runs', async () => (await redis.llen(fast.idle(deployment))) === 0);
      const began = performance.now();
      const answer = fetch(`${first.url}/f/single/slow?ms=1`);
      const entry = await waitFor(
        'it waits',
        async () => await redis.lpopBuffer(fast.wait(deployment)).then((found) => found ?? undefined),
      );
      const id = /"id":"([^"]+)"/.exec(entry.toString('latin1'))?.[1] as string;
      await redis.set(fast.given(id), `${runner}|${epoch}|sbx-lost|0|0`, 'PX', 5_000);
      const { status } = await answer;
      expect((await busy).status).toBe(200);
      return { status, ms: performance.now() - began };
    }
    try {
      const epoch = await redis.get(fast.alive(second.nodeId));
      const repeated = await loseCall(second.nodeId, epoch as string);
      expect(repeated.status).toBe(200);
      expect(repeated.ms).toBeLessThan(NOTICE_MS_MAX);
      const lost = await loseCall('node-gone', 'e');
      expect(lost.status).toBe(502);
      expect(lost.ms).toBeLessThan(NOTICE_MS_MAX);
    } finally {
      redis.disconnect();
    }
  });

  it('goes on while a disk is full: what runs there runs on, what is new starts where there is room', async () => {
    await hosts.moveTo(second);
    const load = startLoad(hosts.urls, CALLERS);
    await more(load, 50);
    await second.fillDisk();
    try {
      await more(load, 50);
      for (const name of ['late-one', 'late-two']) {
        await first.deploy(name, functionFixture('echo.ts'), { memory: '64MB' });
        expect((await fetch(`${first.url}/f/${name}`)).status).toBe(200);
      }
    } finally {
      second.freeDisk();
    }
    await more(load, 50);
    await hosts.untilUp(second);
    expectHonest(await load.stop(), 0);
  });

  it.each([
    [
      'whose runtime starts nothing',
      () => writeFileSync(join(folder, 'broken'), ''),
      () => rmSync(join(folder, 'broken')),
    ],
    [
      'whose store of images is damaged',
      () => renameSync(rootfs(), `${rootfs()}.away`),
      () => renameSync(`${rootfs()}.away`, rootfs()),
    ],
  ])('gives no new work to a node %s, says so, and goes back to it', async (_, damage, repair) => {
    await hosts.untilUp(second);
    await hosts.moveTo(third);
    const load = startLoad(hosts.urls, CALLERS);
    damage();
    try {
      await waitFor('the node is not ready', async () => (await statusOf(second)) === 'unready', 20_000);
      const { stdout } = await first.cli(['node', 'inspect', 'second']);
      expect(stdout).toMatch(/status +unready/);
      expect(stdout).toMatch(/health +failing since /);
      expect((await first.cli(['node', 'ls'])).stdout).toMatch(/second +unready/);
      for (const name of ['new-one', 'new-two', 'new-three']) {
        await first.deploy(name, functionFixture('object.ts'), { memory: '64MB' });
        expect((await fetch(`${first.url}/f/${name}/`)).status).toBe(200);
      }
      expect(await first.client.node.tasks(second.nodeId)).toEqual([]);
    } finally {
      repair();
    }
    await hosts.untilUp(second);
    expectHonest(await load.stop(), 0);
    await hosts.moveTo(second);
  });

  it('tries what fails on one host on another: callers and deploys notice nothing', async () => {
    await hosts.moveTo(second);
    const load = startLoad(hosts.urls, CALLERS);
    await more(load, 20);
    // Before it is noticed, starts are tried there.
    writeFileSync(join(folder, 'broken'), '');
    try {
      for (const name of ['tried-one', 'tried-two', 'tried-three']) {
        await first.deploy(name, functionFixture('object.ts'), { memory: '64MB' });
        expect((await fetch(`${first.url}/f/${name}/`)).status).toBe(200);
      }
      await more(load, 50);
    } finally {
      rmSync(join(folder, 'broken'));
    }
    expectHonest(await load.stop(), 0);
    await hosts.untilUp(second);
  });

  it('serves what is deployed, cold starts too, while the registry is away', async () => {
    await hosts.moveTo(third);
    const registry = first.pid('registry');
    process.kill(registry, 'SIGSTOP');
    const load = startLoad(hosts.urls, CALLERS);
    try {
      await more(load, 50);
      await first.client.node.update(third.nodeId, { availability: 'drain' });
      await waitFor(
        'it starts elsewhere',
        async () => (await first.client.node.tasks(third.nodeId)).length === 0,
        20_000,
      );
      await more(load, 50);
    } finally {
      process.kill(registry, 'SIGCONT');
      await first.client.node.update(third.nodeId, { availability: 'active' });
    }
    expectHonest(await load.stop(), 0);
  });

  it('starts what only other hosts have while the registry is away: they give it', async () => {
    await hosts.setAvailability('active');
    const recordOf = async (host: Host) => (await first.client.nodes()).find(({ id }) => id === host.nodeId);
    const registry = first.pid('registry');
    try {
      // It fetches nothing ahead of time, and what is tried at the deploy is tried elsewhere.
      await first.client.node.update(second.nodeId, { availability: 'pause' });
      await waitFor('it is paused', async () => (await recordOf(second))?.availability === 'pause');
      // A layer that no other test has brought here.
      const source = join(folder, 'elsewhere.ts');
      writeFileSync(source, `export default () => new Response('${Date.now()}');\n`);
      await first.deploy('elsewhere', source, { memory: '64MB' });
      const before = (await recordOf(second))?.peers;
      process.kill(registry, 'SIGSTOP');
      await hosts.setAvailability('drain', [first, third]);
      await first.client.node.update(second.nodeId, { availability: 'active' });
      // Until the others have given up theirs, they answer.
      const after = await waitFor(
        'it runs there',
        async () => {
          expect((await fetch(`${first.url}/f/elsewhere/`)).status).toBe(200);
          const peers = (await recordOf(second))?.peers;
          return peers && peers.got.count > (before?.got.count ?? 0) ? peers : undefined;
        },
        30_000,
      );
      expect(after.fromRegistry).toBe(before?.fromRegistry);
      const { stdout } = await first.cli(['node', 'inspect', 'second']);
      expect(stdout).toMatch(/peers +keeps \d+ .* got [1-9]/);
    } finally {
      process.kill(registry, 'SIGCONT');
      await hosts.setAvailability('active');
    }
  });

  it('moves idle warm sandboxes to a host that joins, and none that is busy', async () => {
    await hosts.setAvailability('drain', [first, third]);
    const many = `${first.url}/f/many?ms=100`;
    await first.deploy('many', functionFixture('echo.ts'), { concurrency: 1, max: 6, memory: '64MB' });
    const countOn = async (host: Host) =>
      (await first.client.node.tasks(host.nodeId)).filter(({ functionName }) => functionName === 'many')
        .length;
    const crowd = startLoad([many], CALLERS);
    const one = startLoad([many], 1);
    await waitFor('sandboxes', async () => (await countOn(second)) >= 6, 30_000);
    const env = { SKIFF_RUNNER_MEMORY_BYTES: String(MEMORY_BYTES) };
    const fourth = await hosts.network.join(first, 'fourth', 'worker', { env });
    expectHonest(await crowd.stop(), 0);
    const before = await countOn(second);
    await waitFor(
      'they have moved',
      async () => {
        const [there, here] = [await countOn(fourth), await countOn(second)];
        return there >= 2 && there + here <= before;
      },
      60_000,
    );
    expectHonest(await one.stop(), 0);
    await hosts.setAvailability('active');
    await first.client.node.update(fourth.nodeId, { availability: 'drain' });
    await waitFor('it is empty', async () => (await countOn(fourth)) === 0, 30_000);
    await fourth.stop();
    await first.client.node.remove(fourth.nodeId, { force: true });
  });

  it('answers honestly whatever happens next', async () => {
    const rounds = Number(process.env['SWARM_ROUNDS'] ?? 2);
    const seed = Number(process.env['SWARM_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
    console.log(`SWARM_SEED=${seed} SWARM_ROUNDS=${rounds}`);
    const random = randomFrom(seed);
    const everybody = [first.address, third.address];
    const faults: readonly (readonly [string, () => void, () => void])[] = [
      ['freeze', () => second.freeze(), () => second.thaw()],
      ['cut off', () => second.cutOff(everybody), () => second.heal()],
      ['unheard', () => second.cutOff(everybody, [], 'out'), () => second.heal()],
      ['no stores', () => second.cutOff([first.address], [7379, 7380]), () => second.heal()],
      ['one gateway less', () => third.cutOff([second.address]), () => third.heal()],
      ['thin line', () => second.slowDown(1_000, 1_500), () => second.speedUp()],
    ];
    const load = startLoad(hosts.urls, CALLERS);
    for (let round = 0; round < rounds; round++) {
      const [name, begin, end] = faults[Math.floor(random() * faults.length)] as (typeof faults)[number];
      const forMs = 200 + Math.floor(random() * 4_000);
      console.log(`round ${round}: ${name} for ${forMs} ms`);
      begin();
      try {
        await new Promise((resolve) => setTimeout(resolve, forMs));
      } finally {
        end();
      }
      await hosts.untilUp(second);
      await more(load, 30);
    }
    // What was under way or sent before a fault was noticed, of each.
    expectHonest(await load.stop(), 2 * CALLERS * rounds);
  });
});

/** mulberry32. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
