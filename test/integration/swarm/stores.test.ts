/** The swarm's records, rights and orders against real Redis servers. */
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { durable as durableKeys, fast as fastKeys, swarm as swarmKeys } from '../../helpers/keys.ts';
import { Dispatcher } from '../../../infra/dispatch/dispatcher.ts';
import { openCatalog } from '../../../infra/catalog/catalog.ts';
import { openBlockingRedis, openRedis } from '../../../infra/lib/redis.ts';
import { grantAccess, revokeAccess } from '../../../infra/swarm/access.ts';
import { hashSecret } from '../../../infra/swarm/join-token.ts';
import { Lead } from '../../../infra/swarm/lead.ts';
import { openMembers } from '../../../infra/swarm/members.ts';
import { openServices } from '../../../infra/swarm/services.ts';
import { Upkeep } from '../../../gateway/swarm/upkeep.ts';
import { ServiceSpec, type Service } from '../../../sdk/protocol/swarm/resources.ts';
import { startRedis, type TestRedis } from '../../helpers/redis.ts';
import { waitFor } from '../../helpers/wait.ts';

let servers: TestRedis[];
let durable: Redis;
let fast: Redis;

beforeAll(async () => {
  servers = await Promise.all([startRedis(), startRedis()]);
  [durable, fast] = servers.map((server) => openRedis(server.url)) as [Redis, Redis];
  await Promise.all([durable.connect(), fast.connect()]);
});
afterAll(async () => {
  durable.disconnect();
  fast.disconnect();
  await Promise.all(servers.map((server) => server.close()));
});
beforeEach(async () => {
  await Promise.all([durable.flushall(), fast.flushall()]);
});

const PASSWORD = 'secret-of-node-a';
const node = { id: 'node-a', role: 'worker' as const, passwordHash: hashSecret(PASSWORD) };

async function asNode(store: 'durable' | 'fast', id = node.id): Promise<Redis> {
  const url = servers[store === 'durable' ? 0 : 1]?.url as string;
  const redis = openBlockingRedis(url, { username: id, password: PASSWORD, maxRetriesPerRequest: 1 });
  await redis.connect();
  return redis;
}

describe('rights of a worker', () => {
  let own: { durable: Redis; fast: Redis };

  beforeEach(async () => {
    await grantAccess({ durable, fast }, node);
    own = { durable: await asNode('durable'), fast: await asNode('fast') };
  });
  const end = async () => {
    own.durable.disconnect();
    own.fast.disconnect();
    await Promise.all([revokeAccess(durable, node.id), revokeAccess(fast, node.id)]);
  };

  const ALLOWED: [store: 'durable' | 'fast', ...command: string[]][] = [
    ['durable', 'GET', durableKeys.deployment('dep-1')],
    ['durable', 'ZRANGE', durableKeys.functions, '0', '-1'],
    ['durable', 'HGETALL', swarmKeys.nodeSettings(node.id)],
    ['durable', 'HEXISTS', swarmKeys.members, 'node-b'],
    ['durable', 'HMGET', durableKeys.secrets, 'x'],
    ['fast', 'SET', fastKeys.alive(node.id), 'e'],
    ['fast', 'SET', fastKeys.node(node.id), '{}'],
    ['fast', 'GET', fastKeys.alive('node-b')],
    ['fast', 'GET', fastKeys.node('node-b')],
    ['fast', 'RPUSH', fastKeys.demand, 'x'],
    ['fast', 'LPOP', fastKeys.inbox(node.id)],
    ['fast', 'LPOP', fastKeys.orders(node.id)],
    ['fast', 'SET', fastKeys.pulling('sha256:0'), node.id, 'PX', '1000', 'NX'],
    ['fast', 'XADD', fastKeys.logs('hello'), '*', 'l', 'x'],
  ];
  const DENIED: [store: 'durable' | 'fast', ...command: string[]][] = [
    ['durable', 'SET', durableKeys.deployment('dep-1'), 'x'],
    ['durable', 'DEL', durableKeys.functions],
    ['durable', 'HSET', durableKeys.functionRecord('hello'), 'x', 'y'],
    ['durable', 'HGETALL', durableKeys.tokens],
    ['durable', 'GET', swarmKeys.record],
    ['durable', 'HSET', swarmKeys.members, 'node-b', '{}'],
    ['durable', 'HGETALL', swarmKeys.nodeSettings('node-b')],
    ['durable', 'HSET', swarmKeys.nodeSettings(node.id), 'availability', 'active'],
    ['durable', 'PUBLISH', durableKeys.changes, 'x'],
    ['durable', 'KEYS', '*'],
    ['durable', 'SCAN', '0'],
    ['durable', 'CONFIG', 'GET', '*'],
    ['durable', 'ACL', 'LIST'],
    ['durable', 'FLUSHALL'],
    ['durable', 'SHUTDOWN', 'NOSAVE'],
    ['durable', 'EVAL', "return redis.call('GET', '{skiff}:swarm')", '0'],
    ['fast', 'SET', fastKeys.alive('node-b'), 'e'],
    ['fast', 'DEL', fastKeys.node('node-b')],
    ['fast', 'LPOP', fastKeys.inbox('node-b')],
    ['fast', 'RPUSH', fastKeys.orders('node-b'), '{}'],
    ['fast', 'SET', fastKeys.replicas('node-b'), '[]'],
    ['fast', 'SET', fastKeys.leader, 'me|1'],
    ['fast', 'KEYS', '*'],
    ['fast', 'MONITOR'],
    ['fast', 'CLIENT', 'LIST'],
    ['fast', 'EVAL', `return redis.call('SET', '${fastKeys.alive('node-b')}', 'x')`, '0'],
  ];

  const tryCommand = ([store, name, ...args]: (typeof ALLOWED)[number]) =>
    own[store].call(name as string, ...args).then(
      () => 'allowed',
      (error: Error) =>
        /NOPERM|no permissions|can't (?:run|access)/i.test(error.message) ? 'denied' : error.message,
    );

  test('are what its work needs', async () => {
    for (const row of ALLOWED) expect(await tryCommand(row), row.join(' ')).toBe('allowed');
    await end();
  });

  test('are nothing else', async () => {
    for (const row of DENIED) expect(await tryCommand(row), row.join(' ')).toBe('denied');
    await end();
  });

  test('suffice for the scripts of the dispatcher and the catalog that a runner calls', async () => {
    const dispatcher = new Dispatcher(own.fast);
    const token = `${node.id}|e|sbx|0|0`;
    await own.fast.set(fastKeys.alive(node.id), 'e');
    expect(await dispatcher.offer('dep-1', [token], { live: `${node.id}|e|sbx`, orderId: 'x' })).toEqual([]);
    expect(await dispatcher.retract('dep-1', `${node.id}|e|sbx`, [token])).toBe(true);
    await dispatcher.remove('dep-1', `${node.id}|e|sbx`, [token]);
    expect(await dispatcher.want({ deployment: 'dep-1', concurrency: 1, max: 1, min: 1 })).toBe(true);
    expect(await dispatcher.failStart('dep-1', 'x')).toEqual([]);
    expect(await dispatcher.reclaim(node.id)).toEqual([]);
    expect(await openCatalog(own.durable).resolveRoute('hello')).toBeUndefined();
    await end();
  });

  test('end at once, with the connections that are open', async () => {
    const closed = new Promise((resolve) => own.fast.once('close', resolve));
    await revokeAccess(fast, node.id);
    await closed;
    await expect(asNode('fast')).rejects.toThrow(/WRONGPASS|closed/);
    await end();
  });

  test('come back by themselves when a store has lost its users, and strangers lose theirs', async () => {
    const members = openMembers(durable);
    await members.createSwarm({
      id: 'swm-1',
      createdMs: 0,
      ca: '',
      caDigest: '',
      certificateMs: 1,
      tokenHashes: { worker: '', manager: '' },
      backbone: { durable: '', fast: '', registry: '' },
    });
    await members.put({
      id: node.id,
      role: 'worker',
      hostname: 'a',
      address: '10.0.0.1',
      joinedMs: 0,
      certificateUntilMs: 0,
      version: '0',
      redisPasswordHash: node.passwordHash,
    });
    await end();
    await grantAccess({ durable, fast }, { ...node, id: 'node-stranger' });
    await new Upkeep(members, durable, fast).run();
    for (const store of ['durable', 'fast'] as const) (await asNode(store)).disconnect();
    await expect(asNode('fast', 'node-stranger')).rejects.toThrow(/WRONGPASS|closed/);
    // A manager of a later release gives what its own nodes need to those of before, whose connections stay open.
    const open = await asNode('fast');
    const pull = () => open.get(fastKeys.pulling('sha256:0')).catch((error: Error) => error.message);
    await fast.call('ACL', 'SETUSER', node.id, 'resetkeys');
    expect(await pull()).toContain('NOPERM');
    await new Upkeep(members, durable, fast).run();
    expect(await pull()).toBeNull();
    open.disconnect();
    await end();
  });
});

describe('members', () => {
  test('availability and labels are kept for nodes that are no members too, and change field by field', async () => {
    const members = openMembers(durable);
    expect(await members.settings('node-x')).toEqual({ availability: 'active', labels: {} });
    await members.updateSettings('node-x', { labelsAdd: { zone: 'a', disk: 'ssd' } });
    await members.updateSettings('node-x', { availability: 'drain', drainGraceMs: 10 });
    const changed = await members.updateSettings('node-x', {
      labelsAdd: { zone: 'b' },
      labelsRemove: ['disk'],
    });
    expect(changed).toEqual({ availability: 'drain', drainGraceMs: 10, labels: { zone: 'b' } });
  });

  test('a swarm is made once', async () => {
    const members = openMembers(durable);
    const record = {
      id: 'swm-1',
      createdMs: 0,
      ca: '',
      caDigest: '',
      certificateMs: 1,
      tokenHashes: { worker: 'w', manager: 'm' },
      backbone: { durable: '', fast: '', registry: '' },
    };
    await members.createSwarm(record);
    await expect(members.createSwarm({ ...record, id: 'swm-2' })).rejects.toThrow(/already/);
    await members.setTokenHash('worker', 'w2');
    expect(await members.getSwarm()).toEqual({ ...record, tokenHashes: { worker: 'w2', manager: 'm' } });
  });
});

describe('services', () => {
  const service: Service = {
    id: 'svc-1',
    name: 'web',
    createdMs: 0,
    updatedMs: 0,
    version: 1,
    spec: ServiceSpec.parse({ functionName: 'hello', deployment: 'dep-1' }),
  };

  test('of two writers that saw the same version one is told to look again', async () => {
    const services = openServices(durable);
    await services.create(service);
    await expect(services.create(service)).rejects.toThrow(/already/);
    const next = await services.update(service);
    expect(next.version).toBe(2);
    await expect(services.update(service)).rejects.toThrow(/changed meanwhile/);
    expect(await services.remove('web')).toBe(true);
    await expect(services.update(next)).rejects.toThrow(/no service/);
  });
});

describe('the lead', () => {
  const pending = { service: 'web', slot: 1, deployment: 'dep-1', node: 'node-a', untilMs: 1 };
  const order = { id: 't', dep: 'dep-1' };

  test('belongs to one gateway, and passes on when it is left', async () => {
    const [a, b] = [new Lead('a', fast), new Lead('b', fast)];
    expect([await a.take(), await b.take(), await a.take()]).toEqual([true, false, true]);
    await a.leave();
    expect([await b.take(), await a.take()]).toEqual([true, false]);
  });

  test('an order of a leader that lost the lead is refused, also after it has the lead again', async () => {
    const [a, b] = [new Lead('a', fast), new Lead('b', fast)];
    await a.take();
    expect(await a.tryOrder('node-a', order, { task: 't', ...pending })).toBe(true);
    expect(await a.pending()).toEqual(new Map([['t', pending]]));
    // As if `a` had been stopped for longer than the lead lasts.
    await fast.del(fastKeys.leader);
    await b.take();
    expect(await a.tryOrder('node-a', order)).toBe(false);
    expect(await a.tryOrder('node-a', { stop: 't' })).toBe(false);
    expect(await fast.llen(fastKeys.orders('node-a'))).toBe(1);
    await b.leave();
    expect(await a.tryOrder('node-a', order)).toBe(false);
    expect(await a.take()).toBe(true);
    expect(await a.tryOrder('node-a', order)).toBe(true);
    await a.forget(['t']);
    expect((await a.pending()).size).toBe(0);
  });

  test('runs out by itself', async () => {
    const [a, b] = [new Lead('a', fast), new Lead('b', fast)];
    await a.take();
    await fast.pexpire(fastKeys.leader, 20);
    await waitFor('the other one leads', () => b.take());
    expect(await a.take()).toBe(false);
  });
});
