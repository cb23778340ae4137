/** A person's first minutes, by the real command on a real server: each verb does what the one before left. */
import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { createCli, type CliResult, type TestCli } from '../../helpers/cli.ts';
import { useServer } from '../../helpers/shared-server.ts';
import { waitFor } from '../../helpers/wait.ts';

const server = useServer();
let cli: TestCli;
beforeAll(async () => {
  cli = await createCli({ SKIFF_URL: server.url, SKIFF_DATA_DIR: server.dataDir });
});
afterAll(async () => {
  await cli?.run(['rm', '--force', ...names]);
  await cli?.close();
});

const TEMPLATES = ['http', 'hono', 'event', 'sse', 'cron', 'python', 'image'];
const names = ['first', 'first-broken', 'first-echo', ...TEMPLATES.map((name) => `first-${name}`)];

async function succeed(...args: string[]): Promise<CliResult> {
  const result = await cli.run(args);
  expect(result).toMatchObject({ code: 0 });
  return result;
}
const replace = async (file: string, from: string, to: string): Promise<void> => {
  const path = join(cli.home, file);
  await writeFile(path, (await readFile(path, 'utf8')).replace(from, to));
};

test('from nothing to a URL, a change, a look back, and away', async () => {
  await succeed('init', 'first');
  const deployed = await succeed('deploy', 'first');
  expect(deployed.stdout).toBe(`${server.url}/f/first\n`);
  expect(deployed.stderr).toMatch(
    /^upload .*\n[\s\S]*\nbundle .*\n[\s\S]*\nverify .*\n[\s\S]*first is live in /m,
  );
  expect(await (await fetch(`${deployed.stdout.trim()}/?name=Ada`)).json()).toMatchObject({
    message: 'Hello, Ada!',
  });

  await replace('first/index.ts', 'Hello', 'Good day');
  await succeed('deploy', 'first');
  expect((await succeed('invoke', 'first')).stdout).toContain('Good day, world!');
  expect((await succeed('versions', 'first', '-q')).stdout.trim().split('\n').length).toBe(2);

  await succeed('rollback', 'first');
  expect((await succeed('invoke', 'first', '/?name=Bo')).stdout).toContain('Hello, Bo!');
  await succeed('promote', 'first');
  expect((await succeed('invoke', 'first')).stdout).toContain('Good day, world!');

  expect((await succeed('ls', '-q')).stdout.split('\n')).toContain('first');
  expect((await succeed('inspect', 'first')).stdout).toContain('256 MB');
  await succeed('rm', 'first');
  const gone = await cli.run(['invoke', 'first']);
  expect([gone.code, gone.stderr]).toEqual([1, expect.stringContaining('no function "first"')]);
});

test('df says what is used of every budget, the registry’s among them', async () => {
  const { stdout } = await succeed('df', '--json');
  const stores = JSON.parse(stdout) as { store: string; bytes?: number; bytesMax?: number }[];
  const registry = stores.find(({ store }) => store === 'registry');
  // At least the base image.
  expect(registry?.bytes).toBeGreaterThan(30 * 1024 ** 2);
  expect(registry?.bytesMax).toBeGreaterThan(registry?.bytes as number);
  for (const store of ['events unfinished', 'events dead', 'log lines', 'deployments', 'redis durable'])
    expect(stores.map((one) => one.store)).toContain(store);
});

describe('every template does what it says', () => {
  async function deploy(template: string): Promise<string> {
    await succeed('init', `first-${template}`, '-t', template);
    await succeed('deploy', `first-${template}`);
    return `first-${template}`;
  }

  test('hono: a dependency from npm, several routes', async () => {
    const name = await deploy('hono');
    expect((await succeed('invoke', name, '/users/7')).stdout).toBe('{"id":"7"}');
    expect((await succeed('invoke', name, '/echo', '-d', 'back')).stdout).toBe('back');
    expect((await cli.run(['invoke', name, '/absent'])).code).toBe(4);
  });

  test('http: answers', async () => {
    const name = await deploy('http');
    const answer = JSON.parse((await succeed('invoke', name, '/?name=Ada')).stdout) as { message: string };
    expect(answer.message).toBe('Hello, Ada!');
  });

  test('event: is worked on after it was accepted, and logs', async () => {
    const name = await deploy('event');
    const { stdout } = await succeed('invoke', name, '--async', '-d', '{"id":"o-1","total":3}');
    const record = await server.client.waitFor(stdout.trim());
    expect(record.state).toBe('succeeded');
    const line = await waitFor('the log line', async () => {
      const text = (await succeed('logs', name, '--json')).stdout;
      return text !== '' && (JSON.parse(text.split('\n')[0] as string) as object);
    });
    expect(line).toMatchObject({ level: 'info', message: 'order taken', fields: { order: 'o-1', total: 3 } });
    expect((await cli.run(['invoke', name, '-d', '{"id":"o-2","total":0}'])).code).toBe(4);
  });

  test('cron: a tick reaches it, by the command that init tells', async () => {
    const name = await deploy('cron');
    await succeed('cron', 'create', name, name, '--cron', '0 0 1 1 *');
    onTestFinished(async () => void (await cli.run(['cron', 'rm', name])));
    const { stdout } = await succeed('cron', 'run', name);
    const id = /inv-\w+/.exec(stdout)?.[0] as string;
    expect(await server.client.waitFor(id)).toMatchObject({ state: 'succeeded' });
    expect(await (await server.client.result(id)).json()).toMatchObject({ planned: expect.any(String) });
  });

  test('python: answers, and reads a body', async () => {
    const name = await deploy('python');
    expect((await succeed('invoke', name)).stdout).toContain('Hello from Python!');
    expect((await succeed('invoke', name, '-d', '12345')).stdout.replaceAll(' ', '')).toBe('{"length":5}');
  });

  test('image: is built, and answers', async () => {
    const name = await deploy('image');
    const answer = JSON.parse((await succeed('invoke', name, '/some/path')).stdout) as object;
    expect(answer).toEqual({ message: 'Hello from an image!', path: '/some/path' });
  });

  test('sse: the first event is there long before the last, and Ctrl-C ends it', async () => {
    const name = await deploy('sse');
    const running = cli.start(['invoke', name]);
    await waitFor('the second event', () => running.stdout().startsWith('data: 10\n\ndata: 9\n\n'));
    expect(running.stdout()).not.toContain('data: 1\n');
    running.process.kill('SIGINT');
    expect((await running.ended).code).toBe(130);
  });
});

describe('what fails leaves what was live alone', () => {
  test('a syntax error shows where it is; a function that does not start says why', async () => {
    const file = join(cli.home, 'first-broken.ts');
    await writeFile(file, 'export default () => new Response("good");\n');
    await succeed('deploy', 'first-broken.ts');

    await appendFile(file, 'const x y;\n');
    const syntax = await cli.run(['deploy', 'first-broken.ts']);
    expect([syntax.code, syntax.stdout]).toEqual([1, '']);
    expect(syntax.stderr).toMatch(
      /error: Expected ";" but found "y"\n\n\s+first-broken\.ts:2:8:\n.*2 │ const x y;\n\s+│ +\^/,
    );

    await writeFile(file, 'throw new Error("no database");\nexport default () => new Response("bad");\n');
    const start = await cli.run(['deploy', 'first-broken.ts']);
    expect([start.code, start.stdout]).toEqual([3, '']);
    expect(start.stderr).toContain('no database');
    expect((await succeed('invoke', 'first-broken')).stdout).toBe('good');
  });
});

test('logs -f shows a line as it is written; a body passes both ways unchanged', async () => {
  await writeFile(
    join(cli.home, 'first-echo.ts'),
    `export default async (request: Request) => {
      console.log('called by', request.method);
      return new Response(request.body);
    };`,
  );
  await succeed('deploy', 'first-echo.ts');
  const tail = cli.start(['logs', 'first-echo', '-f', '--tail', '0']);
  const text = 'skiff '.repeat(500_000);
  const echoed = await cli.run(['invoke', 'first-echo', '-d', '-'], { input: text });
  expect(echoed.code).toBe(0);
  expect(echoed.stdout === text).toBe(true);
  await waitFor('the line', async () => {
    if (tail.stdout().includes('called by POST')) return true;
    await cli.run(['invoke', 'first-echo', '-d', 'again']);
    return false;
  });
  tail.process.kill('SIGINT');
  await tail.ended;
});
