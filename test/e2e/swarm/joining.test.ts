import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openBlockingRedis } from '../../../infra/lib/redis.ts';
import { clientTls } from '../../../infra/swarm/identity.ts';
import { callAsNode } from '../../../infra/swarm/manager-call.ts';
import { functionFixture } from '../../helpers/fixtures.ts';
import { copyRelease, HostNetwork, type Host } from '../../helpers/hosts.ts';
import { longestGap, startLoad, summarize } from '../../helpers/load.ts';
import { waitFor } from '../../helpers/wait.ts';

describe('hosts that join', () => {
  let network: HostNetwork;
  let first: Host;
  let second: Host;
  let url: string;
  let token: string;

  beforeAll(async () => {
    network = new HostNetwork();
    first = await network.startManager('first');
    token = (await first.client.swarm.joinToken('worker')).token;
    second = await network.join(first, 'second');
    url = await first.deploy('echo', functionFixture('echo.ts'));
  });
  afterAll(() => network.close());

  const ids = async () => (await first.client.nodes()).map(({ id }) => id);

  it('are listed with role, address and state', async () => {
    const nodes = await first.client.nodes();
    expect(nodes.map((node) => `${node.hostname} ${node.role} ${node.status}`).toSorted()).toEqual([
      'first manager ready',
      'second worker ready',
    ]);
    const { stdout } = await first.cli(['node', 'inspect', 'second']);
    expect(stdout).toContain(`tcp:${second.address}:7378`);
  });

  it('keep what they were given to themselves, and the first one never writes tokens where others could read', () => {
    for (const host of [first, second]) {
      const dir = join(host.dataDir, 'swarm');
      expect(statSync(dir).mode & 0o777).toBe(0o700);
      for (const file of readdirSync(dir)) expect(statSync(join(dir, file)).mode & 0o777, file).toBe(0o600);
    }
    expect(readdirSync(join(second.dataDir, 'swarm'))).not.toContain('ca.key');
    const secret = token.slice(-43);
    const aof = readdirSync(join(first.dataDir, 'redis', 'appendonlydir')).map((name) =>
      readFileSync(join(first.dataDir, 'redis', 'appendonlydir', name), 'latin1'),
    );
    expect(aof.join('')).toContain(createHash('sha256').update(secret).digest('hex'));
    expect(aof.join('')).not.toContain(secret);
    for (const name of ['gateway', 'runner', 'redis', 'host']) expect(first.log(name)).not.toContain(secret);
  });

  it('fail no call while one of them is drained under load, and the other one takes over', async () => {
    await waitFor('the image is on the second host', async () =>
      (await first.client.nodes()).every(({ images }) => (images?.count ?? 0) >= 2),
    );
    const load = startLoad([`${url}?ms=20`], 8);
    await waitFor('calls', () => load.outcomes.length > 50);
    for (const [off, on] of [
      [first, second],
      [second, first],
    ] as const) {
      await first.client.node.update(on.nodeId, { availability: 'active' });
      await first.client.node.update(off.nodeId, { availability: 'drain' });
      await waitFor(
        `${off.name} has nothing left and ${on.name} works`,
        async () =>
          (await first.client.node.tasks(off.nodeId)).length === 0 &&
          (await first.client.node.tasks(on.nodeId)).length > 0,
        20_000,
      );
    }
    await first.client.node.update(second.nodeId, { availability: 'active' });
    const outcomes = await load.stop();
    expect(summarize(outcomes.filter(({ status }) => status !== 200))).toBe('');
    expect(longestGap(outcomes)).toBeLessThan(3_000);
  });

  it('get nothing new while they are paused, and keep what they have', async () => {
    await first.client.node.update(first.nodeId, { availability: 'pause' });
    await first.deploy('paused', functionFixture('object.ts'));
    expect((await fetch(`${first.url}/f/paused/`)).status).toBe(200);
    const placed = await first.client.node.tasks(second.nodeId);
    expect(placed.map(({ functionName }) => functionName)).toContain('paused');
    await first.client.node.update(first.nodeId, { availability: 'active' });
  });

  it('run functions where their labels allow it, and say when no node does', async () => {
    const { code } = await first.cli(['node', 'update', '--label-add', 'zone=b', 'second']);
    expect(code).toBe(0);
    await waitFor('the label', async () =>
      (await first.client.nodes()).some(({ labels }) => labels['zone'] === 'b'),
    );
    await first.deploy('bound', functionFixture('object.ts'), { constraints: ['node.labels.zone==b'] });
    for (let i = 0; i < 3; i++) expect((await fetch(`${first.url}/f/bound/`)).status).toBe(200);
    const tasks = async (host: Host) =>
      (await first.client.node.tasks(host.nodeId)).map(({ functionName }) => functionName);
    expect(await tasks(second)).toContain('bound');
    expect(await tasks(first)).not.toContain('bound');
    await expect(
      first.deploy('nowhere', functionFixture('object.ts'), { constraints: ['node.labels.zone==c'] }),
    ).rejects.toThrow(/no suitable node: node.labels.zone==c is not satisfied on any of the 2 nodes/);
  });

  it('are explained: one sentence on a function and on a call', async () => {
    const response = await fetch(url);
    await response.text();
    const id = response.headers.get('skiff-invocation-id') as string;
    expect((await first.cli(['explain', id])).stdout).toMatch(
      /^The call of "echo" .+ ran on (first|second) \(node-/,
    );
    expect((await first.cli(['explain', 'echo'])).stdout).toMatch(
      /^"echo" is warm: .+ on (first|second) \(node-/,
    );
    const { code, stderr } = await first.cli(['explain', 'nobody']);
    expect([code, stderr]).toEqual([1, expect.stringContaining('no function "nobody"')]);
  });

  it('are let in only with the present token, and tell it only to the swarm it is for', async () => {
    const stranger = network.add('stranger');
    const manager = `${first.address}:7377`;
    const attempt = (text: string, address = manager) =>
      stranger.hostCli(['swarm', 'join', '--no-start', '--token', text, address]);
    const foreign = `SKFTKN-1-${'A'.repeat(43)}-${token.slice(-43)}`;
    expect(await attempt(foreign)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/not a manager of the swarm.*nothing was told/),
    });
    expect(await attempt(`${token.slice(0, -1)}${token.endsWith('A') ? 'B' : 'A'}`)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('not (or no longer) one of this swarm'),
    });
    const fresh = await first.client.swarm.rotateJoinToken('worker');
    expect(await attempt(token)).toMatchObject({ code: 1, stderr: expect.stringContaining('no longer') });
    expect(await attempt(fresh.token, `${first.address}:1`)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('no manager can be reached'),
    });
    expect(await attempt(fresh.token)).toMatchObject({ code: 0 });
    expect(await attempt(fresh.token)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('of a swarm already'),
    });
    const { nodeId } = stranger;
    expect(await ids()).toContain(nodeId);
    const left = await stranger.hostCli(['swarm', 'leave']);
    expect(left).toMatchObject({ code: 0, stdout: expect.stringContaining('left the swarm') });
    expect(await ids()).not.toContain(nodeId);
    // Nodes that had joined with the old token stay.
    expect(await ids()).toContain(second.nodeId);
  });

  it('work with the release before theirs, and are refused with a clear word when they cannot', async () => {
    const [later, foreign] = [
      copyRelease({ protocol: 2, protocolMin: 1 }),
      copyRelease({ protocol: 3, protocolMin: 2 }),
    ];
    try {
      const next = await network.join(first, 'next', 'manager', { root: later });
      const [gateways, old] = [
        [first, next],
        [first, second],
      ];
      const onlyOn = async (hosts: readonly Host[]) => {
        const others = [first, second, next].filter((host) => !hosts.includes(host));
        for (const host of hosts) await first.client.node.update(host.nodeId, { availability: 'active' });
        for (const host of others) await first.client.node.update(host.nodeId, { availability: 'drain' });
        for (const host of others)
          await waitFor(
            `${host.name} has nothing left`,
            async () => (await first.client.node.tasks(host.nodeId)).length === 0,
            30_000,
          );
      };
      // One release's gateways with the other's runners: managers are upgraded first, and a node can be before them.
      for (const [name, hosts] of [
        ['new-on-old', old],
        ['old-on-new', [next]],
      ] as const) {
        await onlyOn(hosts);
        const from = name === 'new-on-old' ? next : first;
        // The first call finds nothing warm and waits in the queue; those after it go over links, and more at once do both.
        await from.deploy(name, functionFixture('echo.ts'));
        const calls = gateways.flatMap((host) => Array.from({ length: 10 }, () => `${host.url}/f/${name}/`));
        expect((await fetch(`${from.url}/f/${name}/`)).status).toBe(200);
        for (const call of calls) expect((await fetch(call)).status).toBe(200);
        const events = await Promise.all(
          calls.map(async (call, i) => {
            const [answer, event] = await Promise.all([
              fetch(call),
              fetch(call, { method: 'POST', body: `${i}`, headers: { prefer: 'respond-async' } }),
            ]);
            expect([answer.status, event.status]).toEqual([200, 202]);
            return event.headers.get('skiff-invocation-id') as string;
          }),
        );
        for (const id of events)
          await waitFor(
            `event ${id}`,
            async () => (await first.client.invocation(id)).state === 'succeeded',
            30_000,
          );
        const nodes = await Promise.all(hosts.map((host) => first.client.node.tasks(host.nodeId)));
        expect(nodes.flat().map(({ functionName }) => functionName)).toContain(name);
      }
      await onlyOn([first, second, next]);
      const stranger = network.add('foreign');
      const { token: secret, managers } = await first.client.swarm.joinToken('worker');
      const program = join(foreign, 'infra/host/main.ts');
      const refused = await stranger.exec([
        process.execPath,
        program,
        'join',
        '--no-start',
        '--token',
        secret,
        managers[0] as string,
      ]);
      expect(refused).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(
          /speaks swarm protocol 2 to 3 .*, the swarm 1 .*upgrade the swarm first/,
        ),
      });
    } finally {
      for (const root of [later, foreign]) rmSync(root, { recursive: true, force: true });
    }
  });

  it('can fetch images as workers, and neither push nor read sources', async () => {
    const dir = join(second.dataDir, 'swarm');
    const { request } = await import('node:https');
    const status = (method: string, path: string): Promise<number> =>
      new Promise((resolve, reject) => {
        const outgoing = request(
          { host: first.address, port: 7377, path, method, ...clientTls(dir) },
          (response) => {
            response.resume();
            resolve(response.statusCode ?? 0);
          },
        );
        outgoing.on('error', reject);
        outgoing.end();
      });
    expect(await status('GET', '/v2/')).toBe(200);
    expect(await status('HEAD', '/v2/skiff/node/manifests/26')).not.toBe(403);
    expect(await status('GET', '/v2/skiff/source/blobs/sha256:00')).toBe(403);
    expect(await status('POST', '/v2/functions/echo/blobs/uploads/')).toBe(403);
    expect(await status('DELETE', '/v2/functions/echo/manifests/x')).toBe(403);
    expect(await status('GET', '/v2/_catalog')).toBe(403);
  });

  it('lose everything at once when they are removed, also connections that are open', async () => {
    const third = second;
    const dir = join(third.dataDir, 'swarm');
    const redisUrl = readFileSync(join(dir, 'redis.url'), 'utf8');
    const redis = openBlockingRedis(redisUrl, { retryStrategy: () => null, maxRetriesPerRequest: 0 });
    await redis.connect();
    expect(await redis.ping()).toBe('PONG');
    await callAsNode(dir, [`${first.address}:7377`], '/swarm/keys', {});

    const refused = await first.cli(['node', 'rm', third.nodeId]);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('is up') });
    const closed = new Promise((resolve) => redis.once('close', resolve));
    const started = performance.now();
    expect(await first.cli(['node', 'rm', '--force', third.nodeId])).toMatchObject({ code: 0 });
    await closed;
    expect(performance.now() - started).toBeLessThan(10_000);
    const again = openBlockingRedis(redisUrl, { retryStrategy: () => null, maxRetriesPerRequest: 0 });
    await expect(again.connect().then(() => again.ping())).rejects.toThrow(/WRONGPASS|closed/);
    await expect(callAsNode(dir, [`${first.address}:7377`], '/swarm/renew', {})).rejects.toThrow(
      /was removed from this swarm/,
    );
    expect(await ids()).not.toContain(third.nodeId);
    await third.stop();
  });
});
