/** Functions that call each other during `skiff dev`: the same fixtures, and the same answers, as on a server. */
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startDev, type TestDev } from '../../helpers/dev.ts';
import { functionFixture } from '../../helpers/fixtures.ts';

let dev: TestDev;
let url: string;

beforeAll(async () => {
  const caller = await readFile(functionFixture('caller.ts'), 'utf8');
  const config = `export const config = { calls: ['target=callee', 'other=callee', 'self=caller', 'gone'], timeout: '2s' };`;
  dev = await startDev(
    {
      'caller/index.ts': `${config}\n${caller}`,
      'callee/index.ts': await readFile(functionFixture('callee.ts'), 'utf8'),
    },
    ['--port', '0'],
    { functions: 2 },
  );
  url = dev.urlOf('caller');
});
afterAll(() => dev[Symbol.asyncDispose]());

const get = (path: string, init: RequestInit = {}): Promise<Response> => fetch(`${url}${path}`, init);

test('reach each other by ctx.invoke and fetch, with bodies of any size', async () => {
  const response = await get('/invoke');
  expect(await response.json()).toEqual({ from: 'caller' });
  expect(response.headers.get('x-url')).toBe('http://target.skiff/echo?q=1');
  expect([response.headers.get('x-caller'), response.headers.get('x-depth')]).toEqual(['caller', '1']);
  const body = Buffer.alloc(2_000_000, 'xyz');
  const echoed = await get('/fetch', { method: 'POST', body });
  expect(Buffer.from(await echoed.arrayBuffer()).equals(body)).toBe(true);
  expect(await (await get('/stream')).text()).toBe('piece 0\npiece 1\npiece 2\n');
  for (const code of [204, 404, 500]) expect((await get(`/status?code=${code}`)).status).toBe(code);
});

test('reach nothing that is not declared or not part of it', async () => {
  const [nobody, , gone] = (await (await get('/refused')).json()) as string[];
  expect(nobody).toMatch(/^TypeError FORBIDDEN: function "caller" does not declare calls of "nobody"/);
  expect(gone).toMatch(/^TypeError FUNCTION_NOT_FOUND: function "gone" is not part of this skiff dev/);
});

test('end with their caller, and loops are detected', async () => {
  expect(await (await get('/abort')).json()).toEqual({ failure: 'TimeoutError' });
  expect((await get('/slow')).status).toBe(504);
  const loop = await get('/loop');
  expect(loop.status).toBe(500);
  expect(await loop.text()).toBeTruthy();
  expect(
    dev.eventsOf('request').some(({ stack }) => stack?.includes('functions called each other 17 deep')),
  ).toBe(true);
});
