import { Agent, request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ROUTES, type RouteSpec } from '../../../gateway/routes/table.ts';
import type { Scope } from '../../../sdk/protocol/api.ts';
import { openCatalog } from '../../../infra/catalog/catalog.ts';
import { events } from '../../helpers/keys.ts';
import { createDeployment } from '../../helpers/deployment.ts';
import { type TestGateway, startGateway } from '../../helpers/gateway.ts';

let gateway: TestGateway;
const tokens = new Map<Scope, string>();

beforeAll(async () => {
  gateway = await startGateway();
  for (const scope of ['admin', 'deploy', 'invoke', 'read'] as const) {
    tokens.set(scope, (await createToken({ name: scope, scopes: [scope] })).token);
  }
});
afterAll(() => gateway.close());

function createToken(body: { name: string; scopes: Scope[]; namespace?: string; expiresMs?: number }) {
  const init = { method: 'POST', body: JSON.stringify(body) };
  return gateway.json<{ token: string; record: { id: string } }>('/v1/tokens', init);
}

/** Each route is asked from an address of its own: one that guesses tokens this often is shut out. */
const agents = new Map<RouteSpec, Agent>(
  Object.values(ROUTES).map((spec, index) => [spec, new Agent({ localAddress: `127.0.1.${index + 1}` })]),
);
afterAll(async () => {
  for (const agent of agents.values()) await agent.close();
});

/** Names that do not exist: being let in then shows as 404 or 400, and nothing is changed. */
async function call(spec: RouteSpec, token: string | null, name = 'nothing-here'): Promise<number> {
  const path = spec.path.replaceAll(/:\w+/g, name);
  const { statusCode, body } = await request(`${gateway.url}${path}`, {
    method: spec.method,
    headers: token === null ? {} : { authorization: `Bearer ${token}` },
    dispatcher: agents.get(spec) as Agent,
    ...(spec.body === undefined ? {} : { body: '' }),
  });
  // Not read to its end: streams have none.
  body.on('error', () => {}).destroy();
  return statusCode;
}

/** Written out here once more: the table must not be able to loosen a scope unseen. */
const ENOUGH: Record<Scope, Scope[]> = {
  read: ['read', 'deploy', 'admin'],
  invoke: ['invoke', 'admin'],
  deploy: ['deploy', 'admin'],
  admin: ['admin'],
};
const PUBLIC = ['/healthz', '/readyz', '/openapi.json'];
/** Knowing an id of a public function's event is the permission to read it: see events/accept.test.ts. */
const BY_ID = ['/v1/invocations/:id', '/v1/invocations/:id/result'];

describe.each(Object.entries(ROUTES) as [string, RouteSpec][])('%s', (_id, spec) => {
  if (spec.scope === 'public') {
    it('is one of the few routes that anyone may use, and needs no token', async () => {
      expect([...PUBLIC, ...BY_ID]).toContain(spec.path);
      expect(BY_ID.includes(spec.path) ? [404] : [200, 503]).toContain(await call(spec, null));
    });
    return;
  }
  const { scope } = spec;

  it('answers 401 without a token, with an unknown one and with a broken header', async () => {
    expect(await call(spec, null)).toBe(401);
    expect(await call(spec, 'skiff_unknown')).toBe(401);
    expect(await call(spec, 'not a token')).toBe(401);
  });

  it(`lets in exactly the scopes that include ${scope}`, async () => {
    const allowed: Scope[] = [];
    for (const [has, token] of tokens) {
      const status = await call(spec, token);
      expect(status).not.toBe(401);
      if (status !== 403) allowed.push(has);
    }
    expect(allowed.toSorted()).toEqual(ENOUGH[scope].toSorted());
  });
});

it('changes of everything but public reads need more than read', () => {
  for (const spec of Object.values(ROUTES)) {
    if (spec.method !== 'GET') expect(['invoke', 'deploy', 'admin']).toContain(spec.scope);
  }
});

it('stops letting a revoked token in at once, though it was just used', async () => {
  const { token, record } = await createToken({ name: 'gone', scopes: ['read'] });
  expect((await gateway.request('/v1/functions', { token })).status).toBe(200);
  expect((await gateway.request(`/v1/tokens/${record.id}`, { method: 'DELETE' })).status).toBe(204);
  await expect.poll(async () => (await gateway.request('/v1/functions', { token })).status).toBe(401);
});

it('stops letting a token in when it expires', async () => {
  const { token } = await createToken({ name: 'brief', scopes: ['read'], expiresMs: Date.now() + 300 });
  expect((await gateway.request('/v1/functions', { token })).status).toBe(200);
  await expect.poll(async () => (await gateway.request('/v1/functions', { token })).status).toBe(401);
});

it('never writes a token into its log', () => {
  for (const token of [...tokens.values(), gateway.adminToken]) expect(gateway.output()).not.toContain(token);
});

it('shows tokens without the tokens themselves', async () => {
  const response = await gateway.request('/v1/tokens');
  const text = await response.text();
  expect(JSON.parse(text)).toMatchObject({
    tokens: expect.arrayContaining([expect.objectContaining({ id: 'tok-admin' })]),
  });
  for (const token of tokens.values()) expect(text).not.toContain(token);
});

/** Written out here once more as well: what a token of a namespace may ask for, and what of it is sorted by owner. */
const NAMED = [
  'deploy getFunction removeFunction restartFunction listDeployments setAlias readLogs',
  'setSecret removeSecret getSchedule putSchedule removeSchedule pauseSchedule resumeSchedule runSchedule',
  'readService updateService rollbackService removeService readVolume removeVolume',
].flatMap((line) => line.split(' '));
const SORTED = [
  'uploadSource listBuilds getBuild followBuild cancelBuild listFunctions getDeployment listSecrets whoAmI explain',
  'submitEvents submitGroup cancelInvocation listDead replayDead purgeDead listSchedules',
  'listInvocationSteps replayInvocation getInvocationRequest listServices createService listVolumes',
  'readStats followStats listCalls readTrace',
].flatMap((line) => line.split(' '));

describe('F3 F4: a token of a namespace', () => {
  let bound: string;
  let everywhere: string;
  const own = new Map<string, string>();
  const foreign = new Map<string, string>();

  /** A function with all that can belong to one, and the ids by which it can be asked for. */
  async function furnish(name: string, ids: Map<string, string>): Promise<void> {
    const catalog = openCatalog(gateway.durableRedis);
    const deployment = createDeployment(name, { config: { access: 'private' } });
    await catalog.putDeployment(deployment);
    await catalog.setAlias(name, 'live', [{ deployment: deployment.id, weight: 100 }]);
    const build = `bld-${name.replace('.', '-')}`;
    await catalog.putBuild({ id: build, functionName: name, state: 'succeeded', createdMs: Date.now() });
    const put = (path: string, body: object) =>
      gateway.json(path, { method: 'PUT', body: JSON.stringify(body) });
    await put(`/v1/secrets/${name}`, { value: 'x' });
    await put(`/v1/schedules/${name}`, { function: name, cron: '0 0 1 1 *' });
    const accept = async (): Promise<string> => {
      const init = { method: 'POST', headers: { prefer: 'respond-async', 'skiff-delay': '1h' } };
      return (await gateway.json<{ id: string }>(`/f/${name}`, init)).id;
    };
    const [event, dead] = [await accept(), await accept()];
    await gateway.request(`/v1/invocations/${dead}`, { method: 'DELETE' });
    await gateway.durableRedis.zadd(events.dead, Date.now(), dead);
    for (const [kind, id] of Object.entries({ name, deployment: deployment.id, build, event, dead }))
      ids.set(kind, id);
  }

  beforeAll(async () => {
    const scopes: Scope[] = ['deploy', 'invoke'];
    bound = (await createToken({ name: 'bound', scopes, namespace: 'team' })).token;
    everywhere = (await createToken({ name: 'everywhere', scopes })).token;
    await furnish('team.own', own);
    await furnish('other.canary', foreign);
    await furnish('teams', new Map());
  });

  it.each(Object.entries(ROUTES) as [string, RouteSpec][])(
    'is let in to %s where it is its own',
    async (id, spec) => {
      if (spec.scope === 'public') return;
      const isOpen = NAMED.includes(id) || SORTED.includes(id);
      const isEnough = (await call(spec, everywhere)) !== 403;
      const get = async (name: string): Promise<boolean> => (await call(spec, bound, name)) !== 403;
      expect(await get('team.nothing-here')).toBe(isOpen && isEnough);
      for (const name of ['other.nothing-here', 'nothing-here', 'teams', 'team', 'team-x.nothing'])
        expect(await get(name), name).toBe(SORTED.includes(id) && isEnough);
    },
  );

  const ask = async (path: string, init: RequestInit = {}) => {
    const response = await gateway.request(path, { ...init, token: bound });
    return { status: response.status, text: await response.text() };
  };

  it.each([
    '/v1/functions',
    '/v1/builds',
    '/v1/builds?function=other.canary',
    '/v1/secrets',
    '/v1/schedules',
    '/v1/dlq',
    '/v1/dlq?function=other.canary',
    '/v1/whoami',
  ])('GET %s lists its own alone', async (path) => {
    const { status, text } = await ask(path);
    expect(status).toBe(200);
    expect(text).not.toMatch(/canary|"teams"/);
    const isAsked = path.includes('?') || path.endsWith('builds') || path.endsWith('whoami');
    if (!isAsked) expect(text).toContain('team.own');
  });

  it.each([
    ['GET', '/v1/deployments/:deployment'],
    ['GET', '/v1/builds/:build'],
    ['GET', '/v1/builds/:build/events'],
    ['DELETE', '/v1/builds/:build'],
    ['DELETE', '/v1/invocations/:event'],
    ['GET', '/v1/explain/:name'],
  ])('%s %s of somebody else is answered as one that does not exist', async (method, path) => {
    const at = (ids: ReadonlyMap<string, string>): string =>
      path.replace(/:(\w+)/, (_, kind: string) => ids.get(kind) ?? 'missing');
    const there = await ask(at(foreign), { method });
    const kind = /:(\w+)/.exec(path)?.[1] ?? '';
    const other = String(foreign.get(kind)).replace(/.$/, (last) => (last === 'x' ? 'y' : 'x'));
    const absent = await ask(at(new Map([[kind, other]])), { method });
    const plain = ({ status, text }: { status: number; text: string }): unknown => {
      const { requestId: _id, ...problem } = JSON.parse(text) as Record<string, unknown>;
      return [
        status,
        JSON.stringify(problem)
          .replaceAll(foreign.get(kind) as string, '…')
          .replaceAll(other, '…'),
      ];
    };
    expect(there.status).toBe(404);
    expect(plain(there)).toEqual(plain(absent));
    expect((await ask(at(own), { method })).status).toBeLessThan(300);
  });

  it('its own and somebody else\u2019s private invocation and result', async () => {
    expect((await ask(`/v1/invocations/${own.get('event')}`)).status).toBe(200);
    expect((await ask(`/v1/invocations/${foreign.get('event')}`)).status).toBe(403);
    expect((await ask(`/v1/invocations/${foreign.get('event')}/result`)).status).toBe(403);
  });

  const post = (path: string, body: unknown, method = 'POST') =>
    ask(path, { method, body: JSON.stringify(body) });

  it('cannot submit events to, replay or purge what is somebody else\u2019s', async () => {
    const { text } = await post('/v1/events', [{ function: 'other.canary' }, { function: 'team.own' }]);
    expect(JSON.parse(text)).toMatchObject({
      events: [{ error: { code: 'FUNCTION_NOT_FOUND' } }, { id: expect.any(String) }],
    });
    for (const [member, last] of [
      ['other.canary', 'team.own'],
      ['team.own', 'other.canary'],
    ]) {
      const group = { events: [{ function: member }], follower: { function: last } };
      expect((await post('/v1/events/groups', group)).status).toBe(404);
    }
    const dead = foreign.get('dead') as string;
    for (const path of ['/v1/dlq/replay', '/v1/dlq/purge']) {
      expect((await post(path, { ids: [dead] })).status).toBe(404);
      expect((await post(path, { function: 'other.canary' })).status).toBe(200);
      expect((await post(path, { all: true })).status).toBe(200);
    }
    expect(await gateway.durableRedis.zscore(events.dead, dead)).not.toBeNull();
    expect((await post('/v1/dlq/purge', { ids: [own.get('dead')] })).status).toBe(200);
  });

  it.each([
    ['a call', { calls: ['other.canary'] }],
    ['a call behind an alias', { calls: ['x=other.canary'] }],
    ['a destination', { async: { onSuccess: { function: 'other.canary' } } }],
  ])('cannot deploy a function that reaches another namespace by %s', async (_what, config) => {
    const image = 'example.test/x:1';
    const { status, text } = await post('/v1/functions/team.own/deployments', { image, config });
    expect([status, text]).toEqual([400, expect.stringContaining('functions of the namespace')]);
  });

  it('cannot schedule another namespace\u2019s function under a name of its own', async () => {
    const { status, text } = await post(
      '/v1/schedules/team.x',
      { function: 'other.canary', cron: '* * * * *' },
      'PUT',
    );
    expect([status, text]).toEqual([400, expect.stringContaining('functions of that namespace')]);
  });

  it('calls its own private functions and no others', async () => {
    const called = async (name: string): Promise<number> =>
      (await ask(`/f/${name}`, { headers: { prefer: 'respond-async' } })).status;
    expect([await called('team.own'), await called('other.canary'), await called('teams')]).toEqual([
      202, 403, 403,
    ]);
  });

  it.each([
    { scopes: ['admin'], namespace: 'team' },
    { scopes: ['read'], namespace: 'team', functions: ['team.own'] },
    { scopes: ['read'], namespace: 'Team' },
    { scopes: ['read'], namespace: 'a.b' },
  ])('%j is no token that can be made', async (body) => {
    const init = { method: 'POST', body: JSON.stringify({ name: 'x', ...body }) };
    expect((await gateway.request('/v1/tokens', init)).status).toBe(400);
  });
});
