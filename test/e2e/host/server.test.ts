import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { findLeftovers, processesOf, takeSnapshot } from '../../helpers/leftovers.ts';
import { startServer, type TestServer } from '../../helpers/server.ts';
import { ROOT } from '../../helpers/source-tree.ts';
import { waitFor } from '../../helpers/wait.ts';

const HELLO = 'infra/deploy/examples/hello.ts';

let servers: TestServer[] = [];
afterEach(async () => {
  const stopping = servers.map((server) => server.stop());
  servers = [];
  await Promise.all(stopping);
});

async function start(...args: Parameters<typeof startServer>): Promise<TestServer> {
  const server = await startServer(...args);
  servers.push(server);
  return server;
}

async function greet(server: TestServer, name: string): Promise<string> {
  const response = await fetch(`${server.url}/f/hello?name=${name}`);
  return `${response.status} ${(await response.text()).split('!')[0]}`;
}

/** Runs main.ts to its end; for those that are refused. */
async function runMain(args: readonly string[], env: Readonly<Record<string, string | undefined>>) {
  const child = spawn(process.execPath, [join(ROOT, 'infra/host/main.ts'), ...args], {
    env: { ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (output += text));
  const [code] = (await once(child, 'close')) as [number];
  return { code, output };
}

test('deploys, answers, and leaves nothing when it is stopped', async () => {
  const server = await start();
  const { url } = await server.deploy(HELLO);
  expect(url).toBe(`${server.url}/f/hello`);
  expect(await greet(server, 'Ann')).toBe('200 Hello, Ann');
  expect(Object.keys(server.state.processes).sort()).toEqual([
    'builder',
    'events',
    'gateway',
    'redis',
    'redis-fast',
    'registry',
    'runner',
  ]);
  // That there was something to leave is what makes the check in stop() worth something.
  expect(processesOf(server.dataDir).length).toBeGreaterThan(7);
});

test('two servers run side by side and do not see each other', async () => {
  const [one, two] = await Promise.all([start(), start()]);
  await one.deploy(HELLO);
  expect(await greet(one, 'One')).toBe('200 Hello, One');
  expect(await greet(two, 'Two')).toMatch(/^404 /);
  await one.stop();
  servers = [two];
  await two.deploy(HELLO);
  expect(await greet(two, 'Two')).toBe('200 Hello, Two');
});

test('a second server on the same data or port is refused with what to do, and harms nothing', async () => {
  const server = await start();
  await server.deploy(HELLO);
  const sameData = await runMain(['server'], { ...server.env, SKIFF_GATEWAY_PORT: '1' });
  expect(sameData).toMatchObject({ code: 1, output: expect.stringMatching(/already uses .*SKIFF_DATA_DIR/) });
  const samePort = await runMain(['server'], { ...server.env, SKIFF_DATA_DIR: `${server.dataDir}/x` });
  expect(samePort).toMatchObject({
    code: 1,
    output: expect.stringMatching(/in use.*\n.*SKIFF_GATEWAY_PORT/),
  });
  expect(await greet(server, 'Ann')).toBe('200 Hello, Ann');
});

test('when the supervisor is killed everything ends, and the next one serves the same functions', async () => {
  const before = takeSnapshot();
  const first = await startServer();
  await first.deploy(HELLO);
  await first.crash();
  const { dataDir } = first;
  // Sandboxes may outlive their runner; whatever is left then, the next server must remove.
  await waitFor(
    'the end of the processes',
    () => processesOf(dataDir).every((line) => !/main\.ts|redis|registry/.test(line)),
    30_000,
  );
  const second = await start({ dataDir });
  expect(await greet(second, 'Ann')).toBe('200 Hello, Ann');
  await second.stop({ keepData: true });
  expect(findLeftovers(before, dataDir)).toEqual([]);
});

test('each process that is killed comes back, and functions answer again', async () => {
  const server = await start();
  await server.deploy(HELLO);
  for (const name of ['gateway', 'runner', 'redis-fast', 'redis', 'registry', 'builder']) {
    const pid = server.kill(name);
    await waitFor(`another ${name}`, () => ![undefined, pid].includes(server.state.processes[name]));
    const answer = async () => {
      const text = await greet(server, name).catch(String);
      return text === `200 Hello, ${name}`;
    };
    await waitFor(`an answer after the death of ${name}`, answer, 30_000);
  }
  await server.deploy(HELLO, ['--env', 'AGAIN=1']);
  expect(server.log('host')).toContain('process died');
});

test('doctor says what is there, in a table and as JSON', async () => {
  const env = { PATH: process.env['PATH'] };
  const table = await runMain(['doctor', '--security'], env);
  expect(table.output).toMatch(/^ok +root/m);
  expect(table.output).toMatch(/ ok, \d+ warnings, \d+ missing/);
  const json = await runMain(['doctor', '--json'], { ...env, SKIFF_RUNTIME: 'no-such-runtime' });
  expect(json.code).toBe(1);
  const { ok, checks } = JSON.parse(json.output) as { ok: boolean; checks: { id: string; status: string }[] };
  expect(ok).toBe(false);
  expect(checks.filter(({ status }) => status === 'missing').map(({ id }) => id)).toContain(
    'program-no-such-runtime',
  );
});

test('wrong settings and arguments end with 2 and name themselves', async () => {
  const env = { PATH: process.env['PATH'] };
  expect(await runMain(['server'], { ...env, SKIFF_GATEWAY_PORT: 'x' })).toMatchObject({
    code: 2,
    output: expect.stringContaining('SKIFF_GATEWAY_PORT'),
  });
  expect(await runMain(['server', '--rôle'], env)).toMatchObject({ code: 2 });
  expect(await runMain(['server', '--role', 'runner'], env)).toMatchObject({
    code: 2,
    output: expect.stringContaining('SKIFF_REDIS_URL'),
  });
});
