import { afterAll, beforeAll, expect, test } from 'vitest';
import { createCli, type TestCli } from '../../helpers/cli.ts';
import { functionFixture } from '../../helpers/fixtures.ts';
import { useServer } from '../../helpers/shared-server.ts';
import { waitFor } from '../../helpers/wait.ts';

const server = useServer();
const NAME = 'events-cron';
let cli: TestCli;

beforeAll(async () => {
  await server.deploy(NAME, functionFixture('events.ts'));
  cli = await createCli({ SKIFF_URL: server.url, SKIFF_TOKEN: server.token });
});
afterAll(async () => {
  for (const { name } of await server.client.schedules.list()) await server.client.schedules.remove(name);
  await cli.close();
});

async function run(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await cli.run(args);
  expect([code, stderr]).toEqual([0, '']);
  return stdout;
}

test('a schedule runs its function every second, each tick once, until it is paused', async () => {
  await run(
    'cron',
    'create',
    'every-second',
    NAME,
    '--cron',
    '* * * * * *',
    '--overlap',
    'allow',
    '-d',
    '{"a":1}',
  );
  await waitFor('three ticks', async () => (await server.client.schedules.get('every-second')).fired >= 3);
  expect(await run('cron', 'ls')).toMatch(/every-second +events-cron +\* \* \* \* \* \* +(?:now|in \d+ ms)/);
  expect(await run('cron', 'pause', 'every-second')).toBe('every-second  paused\n');
  const { fired, lastInvocation = '' } = await server.client.schedules.get('every-second');
  const record = await server.client.waitFor(lastInvocation);
  expect(record).toMatchObject({ state: 'succeeded', origin: 'schedule:every-second' });
  const answer = (await (await server.client.result(lastInvocation)).json()) as {
    body: string;
    headers: object;
  };
  expect(answer).toMatchObject({
    body: '{"a":1}',
    headers: {
      'skiff-schedule': 'every-second',
      'skiff-scheduled-for': expect.stringMatching(/:\d\d\.000Z$/),
      'content-type': 'application/json',
    },
  });
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect((await server.client.schedules.get('every-second')).fired).toBe(fired);
});

test('a schedule can be run by hand, and removed', async () => {
  await run('cron', 'create', 'yearly', NAME, '--cron', '0 0 1 1 *', '--timezone', 'Europe/Berlin');
  const id = (await run('cron', 'run', 'yearly')).trim();
  expect(await server.client.waitFor(id)).toMatchObject({ state: 'succeeded', origin: 'schedule:yearly' });
  expect(JSON.parse(await run('cron', 'show', 'yearly', '--json'))).toMatchObject({
    fired: 0,
    timezone: 'Europe/Berlin',
  });
  await run('cron', 'rm', 'yearly');
  expect((await cli.run(['cron', 'show', 'yearly'])).code).toBe(1);
});

test('what is no schedule is refused with what is wrong', async () => {
  const twice = await cli.run(['cron', 'create', 'x', NAME, '--every', '1m', '--cron', '* * * * *']);
  expect([twice.code, twice.stderr]).toEqual([2, expect.stringContaining('exactly one')]);
  const bad = await cli.run(['cron', 'create', 'x', NAME, '--cron', '99 * * * *']);
  expect([bad.code, bad.stderr]).toEqual([1, expect.stringContaining('99')]);
  const nobody = await cli.run(['cron', 'create', 'x', 'nobody', '--every', '1m']);
  expect([nobody.code, nobody.stderr]).toEqual([1, expect.stringContaining('nobody')]);
});

test('invoke --async prints an id; invocation and dlq follow it to its end', async () => {
  const id = (await run('invoke', NAME, '/reject', '-d', 'x', '--async')).trim();
  const waited = await cli.run(['invocation', 'wait', id]);
  expect([waited.code, waited.stdout]).toEqual([4, 'dead (rejected)\n']);
  expect(await run('dlq', 'ls', NAME)).toContain(id);
  expect(await run('dlq', 'show', id)).toMatch(/1 +rejected +422/);
  const replayed = await cli.run(['dlq', 'replay', id]);
  expect([replayed.code, replayed.stdout]).toEqual([0, `${id}\n`]);
  await cli.run(['invocation', 'wait', id]);
  expect((await server.client.invocation(id)).replays).toBe(1);
  expect((await cli.run(['dlq', 'purge', id])).stderr).toBe('1 invocation removed\n');
  expect((await cli.run(['invocation', 'show', id])).code).toBe(1);
});

test('invocation result prints what the function answered', async () => {
  const id = (await run('invoke', NAME, '/hello', '-d', 'x', '--async')).trim();
  await run('invocation', 'wait', id);
  expect(JSON.parse(await run('invocation', 'result', id))).toMatchObject({ invocationId: id, body: 'x' });
});
