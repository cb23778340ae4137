/** `skiff map`, `skiff replay` and `skiff event`, as their users run them. */
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createCli, type TestCli } from '../../helpers/cli.ts';
import { functionFixture } from '../../helpers/fixtures.ts';
import { useServer } from '../../helpers/shared-server.ts';
import { waitFor } from '../../helpers/wait.ts';

const server = useServer();
const NAME = 'map-events';
let cli: TestCli;

beforeAll(async () => {
  cli = await createCli({ SKIFF_URL: server.url, SKIFF_TOKEN: server.token });
  await server.deploy(NAME, functionFixture('map.ts'), { async: { retries: 0 } });
});
afterAll(() => cli?.close());

const inputs = (name: string, values: readonly unknown[]) =>
  writeFile(join(cli.home, name), values.map((value) => JSON.stringify(value)).join('\n\n'));

async function results(name: string): Promise<Record<string, unknown>[]> {
  const text = await readFile(join(cli.home, name), 'utf8');
  return text
    .trimEnd()
    .split('\n')
    .slice(1)
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

test('every line is one event; results are JSON lines in the order of the inputs', async () => {
  await inputs(
    'squares.jsonl',
    Array.from({ length: 60 }, (_, n) => ({ n })),
  );
  const { code, stderr, stdout } = await cli.run(['map', NAME, 'squares.jsonl', '-c', '20']);
  expect([code, stdout, stderr]).toEqual([0, '', '60 inputs, 0 failed; results in squares.results.jsonl\n']);
  const found = await results('squares.results.jsonl');
  expect(found.map(({ result }) => result)).toEqual(
    Array.from({ length: 60 }, (_, n) => ({ square: n * n })),
  );
  expect(found[1]).toMatchObject({ line: 3, state: 'succeeded', status: 200, tries: 1 });
  // Again: there is nothing to do.
  const again = await cli.run(['map', NAME, 'squares.jsonl']);
  expect([again.code, await results('squares.results.jsonl')]).toEqual([0, found]);
});

test('what failed is named, kept, and run again when that is asked for', async () => {
  await inputs('some.jsonl', [{ n: 1 }, { n: -1 }, { n: 2 }]);
  const { code, stderr } = await cli.run(['map', NAME, 'some.jsonl']);
  expect(code).toBe(4);
  expect(stderr).toMatch(
    /3 inputs, 1 failed.*\nline 3: dead \(retries_exhausted.*\); see: skiff invocation show inv-/,
  );
  expect((await cli.run(['map', NAME, 'some.jsonl'])).code).toBe(4);
  expect((await results('some.results.jsonl'))[1]).toMatchObject({ state: 'dead', tries: 1 });
  await server.deploy(NAME, functionFixture('map.ts'), { async: { retries: 0 }, env: { REPAIRED: '1' } });
  const repaired = await cli.run(['map', NAME, 'some.jsonl', '--retry-failed']);
  expect([repaired.code, repaired.stderr]).toEqual([
    0,
    '3 inputs, 0 failed; results in some.results.jsonl\n',
  ]);
  expect((await results('some.results.jsonl'))[1]).toMatchObject({ state: 'succeeded', tries: 2 });
});

test('stopped in the middle it goes on where it was, and runs nothing twice', async () => {
  await inputs(
    'slow.jsonl',
    Array.from({ length: 30 }, (_, n) => ({ n, ms: 150, mark: 'resume' })),
  );
  const first = cli.start(['map', NAME, 'slow.jsonl', '-c', '3']);
  const written = join(cli.home, 'slow.results.jsonl');
  await waitFor(
    'a few results',
    async () => (await readFile(written, 'utf8').catch(() => '')).split('\n').length > 5,
  );
  first.process.kill('SIGINT');
  const { code, stderr } = await first.ended;
  expect([code, stderr]).toEqual([130, expect.stringContaining('the same command goes on where it was')]);
  const before = (await results('slow.results.jsonl')).length;
  expect(before).toBeLessThan(30);
  expect((await cli.run(['map', NAME, 'slow.jsonl', '-c', '10'])).code).toBe(0);
  expect(await results('slow.results.jsonl')).toHaveLength(30);
  const lines = await server.logs(NAME, { tail: 500 });
  expect(lines.filter(({ message }) => message.startsWith('resume'))).toHaveLength(30);
});

test('a terminal sees a bar; standard output can have the results; wrong inputs are refused before anything runs', async () => {
  await inputs('few.jsonl', [{ n: 3 }, { n: 4 }]);
  const { raw } = await cli.runInTerminal(['map', NAME, 'few.jsonl', '-o', 'bar.jsonl']);
  expect(raw).toMatch(/░+.* 0\/2/);
  const { stdout } = await cli.run(['map', NAME, 'few.jsonl', '-o', '-']);
  expect(stdout.split('\n').filter(Boolean)).toHaveLength(2);
  await writeFile(join(cli.home, 'bad.jsonl'), '{"n":1}\nnot json\n');
  const bad = await cli.run(['map', NAME, 'bad.jsonl']);
  expect([bad.code, bad.stderr]).toEqual([2, expect.stringContaining('line 2 of ')]);
  await inputs('few.jsonl', [{ n: 3 }, { n: 5 }]);
  const changed = await cli.run(['map', NAME, 'few.jsonl', '-o', 'bar.jsonl']);
  expect([changed.code, changed.stderr]).toEqual([2, expect.stringContaining('the inputs have changed')]);
});

test('a recorded event is run again: on a named deployment, on what is live, or here', async () => {
  const name = 'map-replay';
  await server.deploy(name, functionFixture('events.ts'));
  const { live } = await server.client.get(name);
  const old = live?.targets[0]?.deployment ?? '';
  const { id } = await server.client.invokeAsync(name, { path: '/x?y=1', method: 'PUT', body: 'again' });
  await server.client.waitFor(id, { waitMs: 20_000 });
  await server.deploy(name, functionFixture('echo.ts'));

  const { code, stdout, stderr } = await cli.run(['replay', id, '--deployment', old, '--wait']);
  expect([code, stderr]).toEqual([0, 'succeeded\n']);
  const next = stdout.trim();
  expect(await server.client.invocation(next)).toMatchObject({
    origin: `replay:${id}`,
    attempts: [{ deployment: old }],
  });
  const answer = (await (await server.client.result(next)).json()) as Record<string, unknown>;
  expect(answer).toMatchObject({ body: 'again', path: '/x?y=1', method: 'PUT' });
  const newest = (await cli.run(['replay', id])).stdout.trim();
  const { attempts } = await server.client.waitFor(newest, { waitMs: 20_000 });
  expect(attempts[0]?.deployment).not.toBe(old);

  const here = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => response.end(`${request.method} ${request.url} ${body}`));
  }).listen(0, '127.0.0.1');
  await once(here, 'listening');
  const url = `http://127.0.0.1:${(here.address() as AddressInfo).port}`;
  expect((await cli.run(['replay', id, '--local', url])).stdout).toBe('PUT /x?y=1 again');
  here.close();
  const missing = await cli.run(['replay', 'inv-00000000000000000000000000']);
  expect([missing.code, missing.stderr]).toEqual([1, expect.stringContaining('no asynchronous invocation')]);
});

test('skiff event send names who went on with it, or that nobody waits', async () => {
  const none = await cli.run(['event', 'send', 'nobody-waits', '{"a":1}']);
  expect([none.code, none.stdout, none.stderr]).toEqual([
    0,
    '',
    'nobody waits for "nobody-waits" with such data\n',
  ]);
  expect((await cli.run(['event', 'send', 'x', '{not json'])).code).toBe(2);
  expect((await cli.run(['event', 'stats'])).stdout).toMatch(
    /durability +single: .*on the disk[^]*accepting +yes/,
  );
});
