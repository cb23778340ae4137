import { describe, expect, it } from 'vitest';
import { authorize, createTokenVerifier, tryParseBearer } from '../../../gateway/middleware/auth.ts';
import { grants } from '../../../gateway/routes/route.ts';
import { Scope, type TokenRecord } from '../../../sdk/protocol/api.ts';

const record = (scopes: Scope[], expiresMs?: number): TokenRecord => ({
  id: 'tok-1',
  name: 'ci',
  scopes,
  createdMs: 1,
  ...(expiresMs === undefined ? {} : { expiresMs }),
});

describe('bearer header', () => {
  it.each([
    ['Bearer abc', 'abc'],
    ['bearer   a.b_c~d+e/f-g=', 'a.b_c~d+e/f-g='],
    [undefined, undefined],
    ['', undefined],
    ['Basic abc', undefined],
    ['Bearer', undefined],
    ['Bearer a b', undefined],
    [`Bearer ${'x'.repeat(513)}`, undefined],
  ])('%s gives %s', (header, token) => expect(tryParseBearer(header)).toBe(token));
});

describe('scopes', () => {
  it('admin includes all, deploy includes read, the others only themselves', () => {
    const table = Object.fromEntries(
      Scope.options.map((has) => [has, Scope.options.filter((needed) => grants([has], needed))]),
    );
    expect(table).toEqual({
      admin: ['admin', 'deploy', 'invoke', 'read'],
      deploy: ['deploy', 'read'],
      invoke: ['invoke'],
      read: ['read'],
    });
  });

  it('a token without scopes may do nothing', () => {
    expect(Scope.options.some((needed) => grants([], needed))).toBe(false);
  });
});

describe('authorisation', () => {
  const verify = (token: string) => Promise.resolve(token === 'good' ? record(['deploy']) : undefined);

  it('gives the token’s record when the scope fits', async () => {
    expect(await authorize(verify, 'Bearer good', 'read')).toEqual(record(['deploy']));
  });

  it('answers UNAUTHENTICATED without a token and with an unknown one, FORBIDDEN with too small a scope', async () => {
    await expect(authorize(verify, undefined, 'read')).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    await expect(authorize(verify, 'Bearer bad', 'read')).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    await expect(authorize(verify, 'Bearer good', 'admin')).rejects.toMatchObject({
      code: 'FORBIDDEN',
      message: expect.stringContaining('needs admin'),
    });
  });
});

describe('verification through the cache', () => {
  function counting(result: TokenRecord | undefined) {
    let asked = 0;
    const verifier = createTokenVerifier({
      verifyToken: () => {
        asked += 1;
        return Promise.resolve(result);
      },
    });
    return { ...verifier, asked: () => asked };
  }

  it('asks the store once for a valid token, and again after a drop', async () => {
    const { verify, drop, asked } = counting(record(['read']));
    await verify('t');
    await verify('t');
    expect(asked()).toBe(1);
    drop();
    await verify('t');
    expect(asked()).toBe(2);
  });

  it('does not remember what it read before a revocation that came meanwhile', async () => {
    const answer = Promise.withResolvers<TokenRecord | undefined>();
    let asked = 0;
    const { verify, drop } = createTokenVerifier({
      verifyToken: () => (++asked === 1 ? answer.promise : Promise.resolve(undefined)),
    });
    const first = verify('t');
    drop();
    answer.resolve(record(['read']));
    await first;
    expect(await verify('t')).toBeUndefined();
  });

  it('never remembers an invalid token', async () => {
    const { verify, asked } = counting(undefined);
    await verify('t');
    await verify('t');
    expect(asked()).toBe(2);
  });

  it('asks again once a remembered token has expired', async () => {
    const { verify, asked } = counting(record(['read'], Date.now() - 1));
    await verify('t');
    await verify('t');
    expect(asked()).toBe(2);
  });
});
