import { afterAll, beforeAll, expect, it } from 'vitest';
import { API_BODY_BYTES_MAX } from '../../../sdk/protocol/limits.ts';
import { type TestGateway, startGateway } from '../../helpers/gateway.ts';

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startGateway();
});
afterAll(() => gateway.close());

const DEEP = 100_000;
const token = (text: string): string => `{"name":"x","scopes":["read"],${text}}`;

/** [what, body, status]: each is answered as input that is wrong, or taken for what it says; never a 500. */
const HOSTILE: [string, string, number][] = [
  ['a list of lists, a hundred thousand deep', '['.repeat(DEEP) + ']'.repeat(DEEP), 400],
  ['an object as deep', '{"a":'.repeat(DEEP) + '1' + '}'.repeat(DEEP), 400],
  ['depth without an end', '['.repeat(DEEP), 400],
  ['a prototype', token('"__proto__":{"scopes":["admin"]}'), 400],
  ['a constructor', token('"constructor":{"prototype":{"isAdmin":true}}'), 400],
  ['the same name twice: the last counts, as in JSON.parse', token('"name":""'), 400],
  ['a number beyond all', token('"expiresMs":1e400'), 400],
  ['a number of a hundred thousand digits', token(`"expiresMs":${'9'.repeat(DEEP)}`), 400],
  ['half of a letter in place of a scope', token('"scopes":["\\ud800"]'), 400],
  ['twenty thousand names that it does not know', token(keys(20_000)), 400],
  ['bytes that are no text', Buffer.from([0x7b, 0xff, 0xfe, 0x7d]).toString('latin1'), 400],
  ['more than the limit', `"${'x'.repeat(API_BODY_BYTES_MAX)}"`, 413],
];

function keys(count: number): string {
  return Array.from({ length: count }, (_, i) => `"k${i}":0`).join(',');
}

it.each(HOSTILE)('E14: %s is refused, quickly', async (_what, body, status) => {
  const started = performance.now();
  const response = await gateway.request('/v1/tokens', { method: 'POST', body });
  const text = await response.text();
  expect([response.status, response.headers.get('content-type')]).toEqual([
    status,
    'application/problem+json',
  ]);
  expect(text.length).toBeLessThan(20_000);
  // A busy machine of two cores; what is quadratic would take minutes.
  expect(performance.now() - started).toBeLessThan(2_000);
});

it('E14: nothing of it is left in the process', async () => {
  const { record } = await gateway.json<{ record: { scopes: string[] } }>('/v1/tokens', {
    method: 'POST',
    body: JSON.stringify({ name: 'plain', scopes: ['read'] }),
  });
  expect(record.scopes).toEqual(['read']);
  expect(record).not.toHaveProperty('isAdmin');
});

it('E17: while they come, others are answered', async () => {
  let isOver = false;
  const attack = Promise.all(
    HOSTILE.flatMap((one) => [one, one, one]).map(async ([, body]) => {
      await (await gateway.request('/v1/tokens', { method: 'POST', body })).text();
    }),
  ).finally(() => (isOver = true));
  const waits: number[] = [];
  do {
    const started = performance.now();
    expect((await gateway.request('/healthz', { token: null })).status).toBe(200);
    waits.push(performance.now() - started);
  } while (!isOver);
  await attack;
  expect(Math.max(...waits)).toBeLessThan(2_000);
});
