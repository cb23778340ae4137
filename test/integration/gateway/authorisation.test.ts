import { Agent, request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ROUTES, type RouteSpec } from '../../../gateway/routes/table.ts';
import type { Scope } from '../../../sdk/protocol/api.ts';
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

function createToken(body: { name: string; scopes: Scope[]; expiresMs?: number }) {
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
async function call(spec: RouteSpec, token: string | null): Promise<number> {
  const path = spec.path.replaceAll(/:\w+/g, 'nothing-here');
  const { statusCode, body } = await request(`${gateway.url}${path}`, {
    method: spec.method,
    headers: token === null ? {} : { authorization: `Bearer ${token}` },
    dispatcher: agents.get(spec) as Agent,
    ...(spec.body === undefined ? {} : { body: '' }),
  });
  // Some answers never end.
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
