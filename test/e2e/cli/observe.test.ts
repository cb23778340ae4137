/** Looking closer, by the real command on a real server: stats, trace, invoke --trace, bench; and env and restart. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { StatsSnapshot, Trace } from '../../../sdk/client/index.ts';
import type { BenchReport } from '../../../sdk/cli/output/bench-report.ts';
import { createCli, type CliResult, type TestCli } from '../../helpers/cli.ts';
import { useServer } from '../../helpers/shared-server.ts';
import { waitFor } from '../../helpers/wait.ts';

const server = useServer();
let cli: TestCli;

const INNER = `export default async (request: Request, context) => {
  context.log.info('inner was called', { stage: process.env.STAGE });
  return Response.json({ stage: process.env.STAGE ?? null });
};`;
const OUTER = `export const config = { calls: ['seen-inner'] };
export default async (request: Request, context) => {
  if (new URL(request.url).pathname === '/broken') throw new Error('on purpose');
  return context.invoke('seen-inner');
};`;

beforeAll(async () => {
  cli = await createCli({ SKIFF_URL: server.url, SKIFF_DATA_DIR: server.dataDir });
  await writeFile(join(cli.home, 'seen-inner.ts'), INNER);
  await writeFile(join(cli.home, 'seen-outer.ts'), OUTER);
  for (const name of ['seen-inner', 'seen-outer']) await succeed('deploy', `${name}.ts`);
});
afterAll(async () => {
  await cli?.run(['rm', '--force', 'seen-inner', 'seen-outer']);
  await cli?.close();
});

async function succeed(...args: string[]): Promise<CliResult> {
  const result = await cli.run(args);
  expect(result).toMatchObject({ code: 0 });
  return result;
}
const json = async <T>(...args: string[]): Promise<T> =>
  JSON.parse((await succeed(...args, '--json')).stdout) as T;

describe('where the time of a call went', () => {
  test('invoke --trace shows it below the answer, with the calls that were made', async () => {
    const { stdout, stderr } = await succeed('invoke', 'seen-outer', '--trace');
    expect(JSON.parse(stdout)).toEqual({ stage: null });
    expect(stderr).toMatch(/inv-\w+ +seen-outer +200 +[\d.]+ m?s +on \S+ +dep-\w+\n/);
    expect(stderr).toMatch(/\n {2}seen-inner +(?:queue|exec) /);
    expect(stderr).toMatch(/from here: first byte [\d.]+ m?s, all [\d.]+ m?s\n$/);
  });

  test('trace has each call once, below its caller, with what was logged', async () => {
    const response = await fetch(`${server.url}/f/seen-outer`);
    await response.text();
    const id = response.headers.get('skiff-invocation-id') as string;
    const { spans } = await json<Trace>('trace', id);
    expect(spans.map(({ functionName, parent, status }) => [functionName, parent, status])).toEqual([
      ['seen-outer', undefined, 200],
      ['seen-inner', id, 200],
    ]);
    const [outer, inner] = spans as [Trace['spans'][number], Trace['spans'][number]];
    expect(inner.startMs).toBeGreaterThanOrEqual(outer.startMs);
    expect(inner.execMs).toBeLessThan(outer.execMs as number);
    await waitFor('the line of the inner call', async () =>
      (await succeed('trace', id)).stdout.includes('seen-inner inner was called'),
    );
    expect((await succeed('trace', id, '--no-logs')).stdout).not.toContain('was called');
    expect((await succeed('logs', inner.id)).stdout).toContain('inner was called');
  });

  test('of a failed call: why; of an asynchronous one: its attempts; of an unknown one: what to know', async () => {
    const failed = await cli.run(['invoke', 'seen-outer', '/broken', '--trace']);
    expect([failed.code, failed.stderr]).toEqual([4, expect.stringContaining('seen-outer: handler_error')]);
    const { stdout } = await succeed('invoke', 'seen-inner', '--async');
    const trace = await waitFor('its end', async () => {
      const read = await json<Trace>('trace', stdout.trim());
      return read.state === 'succeeded' && read;
    });
    expect(trace.spans).toMatchObject([{ functionName: 'seen-inner', attempt: 1, status: 200 }]);
    const { stdout: listed } = await succeed('trace', 'seen-outer', '--failed');
    expect(listed).toMatch(/^INVOCATION +WHEN +RESULT .*\ninv-\w+ .* handler_error /);
    expect(listed).not.toMatch(/ 200 /);
    const unknown = await cli.run(['trace', 'inv-none']);
    expect([unknown.code, unknown.stderr]).toEqual([1, expect.stringContaining('keep their last calls')]);
  });
});

describe('stats', () => {
  test('once, and live until Ctrl-C', async () => {
    await Promise.all(
      Array.from({ length: 5 }, () => fetch(`${server.url}/f/seen-inner`).then((r) => r.text())),
    );
    await waitFor('the calls to be counted', async () => {
      const { functions } = await json<StatsSnapshot>('stats', 'seen-inner', '--no-stream');
      expect(functions.map(({ name }) => name)).toEqual(['seen-inner']);
      return (functions[0]?.calls ?? 0) >= 5;
    });
    expect((await succeed('top', '--no-stream')).stdout).toMatch(
      /calls\/s .*\n\nNAME +CALLS\/S +P50 +P99 +COLD/,
    );
    const live = cli.start(['stats', 'seen-inner', '--json']);
    await waitFor('two lines', () => live.stdout().split('\n').length > 2);
    live.process.kill('SIGINT');
    expect((await live.ended).code).toBe(130);
  });

  test('of a function that is not there is an error', async () => {
    const { code, stderr } = await cli.run(['stats', 'seen-nothing', '--no-stream']);
    expect([code, stderr]).toEqual([1, expect.stringContaining('no function "seen-nothing"')]);
  });
});

describe('bench', () => {
  test('tells warm calls from cold ones', async () => {
    const report = await json<BenchReport>('bench', 'seen-inner', '-n', '30', '-c', '3', '--cold', '2');
    expect(report).toMatchObject({
      concurrency: 3,
      failures: {},
      cold: { cold: { p50: expect.any(Number) } },
    });
    expect((report.warm?.calls ?? 0) + (report.cold?.calls ?? 0)).toBe(32);
    expect(report.cold?.calls).toBeGreaterThanOrEqual(2);
    expect(report.cold?.cold.p50).toBeGreaterThan(0);
    expect(report.warm?.histogram.reduce((sum, { count }) => sum + count, 0)).toBe(report.warm?.calls);
    const { stdout } = await succeed('bench', 'seen-inner', '-n', '10');
    expect(stdout).toMatch(/warm {2}\d+ calls?, 10 at a time, \d+ a second\n +P50 +P90 +P99 +MAX\nall /);
    expect(stdout).toContain('█');
  });

  test('ends with 4 when calls fail, and says of what', async () => {
    const { code, stdout } = await cli.run(['bench', 'seen-outer', '/broken', '-n', '4', '-c', '2']);
    expect([code, stdout]).toEqual([4, expect.stringContaining('failed  4 calls: handler_error')]);
  });
});

describe('env', () => {
  test('sets and takes away variables without a build; rollback takes it back; the image has them too', async () => {
    const before = await server.client.get('seen-inner');
    const set = await cli.run(['env', 'set', 'seen-inner', 'STAGE=test', 'LEVEL=debug']);
    expect(set).toMatchObject({ code: 0, stdout: expect.stringMatching(/^dep-\w+\n$/) });
    expect(set.stderr).not.toMatch(/^(?:bundle|fetch|install)/m);
    expect((await succeed('invoke', 'seen-inner')).stdout).toBe('{"stage":"test"}');
    expect(await json('env', 'ls', 'seen-inner')).toEqual({ STAGE: 'test', LEVEL: 'debug' });

    const live = await server.client.deployment(set.stdout.trim());
    const first = await server.client.deployment(before.live?.targets[0]?.deployment as string);
    expect(live.image.layers).toEqual(first.image.layers);
    expect(live.image.digest).not.toBe(first.image.digest);
    expect(live.source).toEqual(first.source);

    await succeed('env', 'unset', 'seen-inner', 'STAGE');
    expect((await succeed('invoke', 'seen-inner')).stdout).toBe('{"stage":null}');
    expect((await succeed('env', 'ls', 'seen-inner')).stdout).toMatch(/^NAME +VALUE\nLEVEL +debug\n$/);
    await succeed('rollback', 'seen-inner');
    expect((await succeed('invoke', 'seen-inner')).stdout).toBe('{"stage":"test"}');
  });

  test('a change of nothing makes no deployment; what is wrong is refused', async () => {
    await succeed('env', 'set', 'seen-outer', 'A=1');
    const { deployments } = await server.client.get('seen-outer');
    expect((await succeed('env', 'set', 'seen-outer', 'A=1')).stderr).toContain('nothing to change');
    const absent = await cli.run(['env', 'unset', 'seen-outer', 'B']);
    expect([absent.code, absent.stderr]).toEqual([1, expect.stringContaining('no variable B')]);
    const reserved = await cli.run(['env', 'set', 'seen-outer', 'PATH=/tmp']);
    expect([reserved.code, reserved.stderr]).toEqual([
      2,
      expect.stringContaining('PATH is set by the platform'),
    ]);
    expect((await server.client.get('seen-outer')).deployments).toEqual(deployments);
  });

  test('a deploy keeps them when it is told to', async () => {
    await succeed('env', 'set', 'seen-inner', 'STAGE=kept');
    await succeed('deploy', 'seen-inner.ts', '--keep-env', '-e', 'LEVEL=info');
    expect(await json('env', 'ls', 'seen-inner')).toMatchObject({ STAGE: 'kept', LEVEL: 'info' });
    await succeed('deploy', 'seen-inner.ts');
    expect(await json('env', 'ls', 'seen-inner')).toEqual({});
  });
});

test('scale shows and changes limits without a build; whoami says which server and what one may', async () => {
  expect((await succeed('scale', 'seen-inner')).stdout).toMatch(
    /^min +0\nmax +10\nconcurrency +16\nmemory +256 MB\n/,
  );
  await succeed('scale', 'seen-inner', 'min=1', 'max=3', 'memory=128MB');
  expect(await json('scale', 'seen-inner')).toMatchObject({ min: 1, max: 3, memory: 128 * 1024 ** 2 });
  const wrong = await cli.run(['scale', 'seen-inner', 'size=9']);
  expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining('"size" is not a setting')]);
  const bad = await cli.run(['scale', 'seen-inner', 'memory=lots']);
  expect([bad.code, bad.stderr]).toEqual([2, expect.stringContaining('is not a size')]);
  await succeed('rollback', 'seen-inner');
  expect(await json('scale', 'seen-inner')).toMatchObject({ min: 0 });
  expect((await succeed('whoami')).stdout).toMatch(
    /^server +http:\/\/127.* \(SKIFF_URL\)\ntoken +admin .*\nmay +admin\n/,
  );
});

test('restart: the next call has a new sandbox of the same deployment', async () => {
  const cold = async (): Promise<boolean> => {
    const response = await fetch(`${server.url}/f/seen-inner`);
    await response.text();
    return !(response.headers.get('server-timing') ?? '').includes('cold;dur=0,');
  };
  await cold();
  expect(await cold()).toBe(false);
  expect((await succeed('restart', 'seen-inner')).stdout).toBe('seen-inner\n');
  await waitFor('a cold start', cold);
});
