import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { fast } from '../../helpers/keys.ts';
import { LogLine } from '../../../sdk/protocol/api.ts';
import { LOG_LINES_KEPT_PER_FUNCTION } from '../../../sdk/protocol/limits.ts';
import { type TestGateway, startGateway } from '../../helpers/gateway.ts';
import { readLines } from '../../helpers/lines.ts';

let gateway: TestGateway;
beforeAll(async () => void (gateway = await startGateway()));
afterAll(() => gateway.close());
beforeEach(() => gateway.fastRedis.flushall());

const key = fast.logs('hello');
const line = (message: string, extra: Partial<LogLine> = {}) =>
  JSON.stringify({ atMs: 1, level: 'info', source: 'app', message, ...extra });

async function write(...lines: string[]): Promise<string[]> {
  const ids: string[] = [];
  for (const text of lines) ids.push((await gateway.fastRedis.xadd(key, '*', 'l', text)) as string);
  return ids;
}

async function read(query = ''): Promise<LogLine[]> {
  const response = await gateway.request(`/v1/functions/hello/logs${query}`);
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toBe('application/x-ndjson');
  return (await readLines(response).rest()).map((value) => LogLine.parse(value));
}
const messages = async (query = '') => (await read(query)).map(({ message }) => message);

describe('past lines', () => {
  it('come oldest first with their cursors', async () => {
    const ids = await write(line('a'), line('b'));
    expect((await read()).map(({ cursor, message }) => [cursor, message])).toEqual([
      [ids[0], 'a'],
      [ids[1], 'b'],
    ]);
  });

  it('are 100 unless a tail is asked for', async () => {
    await write(...Array.from({ length: 150 }, (_, i) => line(String(i))));
    expect(await messages()).toHaveLength(100);
    expect(await messages('?tail=2')).toEqual(['148', '149']);
    expect(await messages('?tail=0')).toEqual([]);
    expect(await messages(`?tail=${LOG_LINES_KEPT_PER_FUNCTION}`)).toHaveLength(150);
  });

  it('continue after a cursor, without repeating it', async () => {
    const ids = await write(line('a'), line('b'), line('c'));
    expect(await messages(`?after=${ids[0]}`)).toEqual(['b', 'c']);
    expect(await messages(`?after=${ids[0]}&tail=1`)).toEqual(['c']);
    expect(await messages(`?after=${ids[2]}`)).toEqual([]);
  });

  it('begin at a moment, including it', async () => {
    await gateway.fastRedis.xadd(key, '1000-0', 'l', line('old'));
    await gateway.fastRedis.xadd(key, '2000-0', 'l', line('at'));
    await gateway.fastRedis.xadd(key, '3000-0', 'l', line('new'));
    expect(await messages('?since=2000')).toEqual(['at', 'new']);
    expect(await messages('?since=0')).toEqual(['old', 'at', 'new']);
  });

  it('are filtered by lowest level and by invocation, and the tail counts what matches', async () => {
    await write(
      line('one', { level: 'error', invocation: 'inv-1' }),
      line('two', { level: 'warn' }),
      line('three', { level: 'debug' }),
      ...Array.from({ length: 700 }, () => line('noise', { level: 'info' })),
    );
    expect(await messages('?level=warn')).toEqual(['one', 'two']);
    expect(await messages('?level=warn&tail=1')).toEqual(['two']);
    expect(await messages('?invocation=inv-1')).toEqual(['one']);
  });

  it('leave out what is not a log line', async () => {
    await write('not json', '{"message":1}', line('good'));
    expect(await messages()).toEqual(['good']);
  });

  it.each(['?tail=-1', '?tail=x', '?level=loud', '?after=now', `?tail=${LOG_LINES_KEPT_PER_FUNCTION + 1}`])(
    'refuse the query %s',
    async (query) => {
      await write(line('a'));
      const response = await gateway.request(`/v1/functions/hello/logs${query}`);
      expect([response.status, await response.json()]).toMatchObject([400, { code: 'BAD_REQUEST' }]);
    },
  );
});

describe('following', () => {
  it('shows the past once and then each line as it comes', async () => {
    await write(line('past'));
    const lines = readLines<LogLine>(await gateway.request('/v1/functions/hello/logs?follow=true'));
    expect(await lines.next()).toMatchObject({ message: 'past' });
    for (const message of ['a', 'b']) {
      await write(line(message));
      expect(await lines.next()).toMatchObject({ message });
    }
    await lines.cancel();
  });

  it('with a tail of 0 shows new lines only', async () => {
    await write(line('past'));
    const lines = readLines<LogLine>(await gateway.request('/v1/functions/hello/logs?follow=1&tail=0'));
    await write(line('new'));
    expect(await lines.next()).toMatchObject({ message: 'new' });
    await lines.cancel();
  });

  it('misses and repeats nothing while lines keep coming', async () => {
    await write(line('0'));
    let next = 1;
    let isWriting = true;
    const writing = (async () => {
      while (isWriting) await write(line(String(next++)));
    })();
    const lines = readLines<LogLine>(await gateway.request('/v1/functions/hello/logs?follow=true&tail=5000'));
    for (let expected = 0; expected < 500; expected++) {
      expect((await lines.next())?.message).toBe(String(expected));
    }
    isWriting = false;
    await writing;
    await lines.cancel();
  });

  it('ends when the gateway is stopped', async () => {
    await write(line('past'));
    const lines = readLines<LogLine>(await gateway.request('/v1/functions/hello/logs?follow=true'));
    await lines.next();
    const startMs = performance.now();
    expect(await gateway.stop()).toBe(0);
    expect(performance.now() - startMs).toBeLessThan(3_000);
    expect(await lines.next()).toBeUndefined();
  });
});
