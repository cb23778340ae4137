/** The verbs that look at things and move them, as processes against a real gateway. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openCatalog } from '../../../infra/catalog/catalog.ts';
import { fast } from '../../helpers/keys.ts';
import type { LogLine, NodeRecord } from '../../../sdk/protocol/api.ts';
import { createCli, type TestCli } from '../../helpers/cli.ts';
import { createDeployment } from '../../helpers/deployment.ts';
import { startGateway, type TestGateway } from '../../helpers/gateway.ts';
import { waitFor } from '../../helpers/wait.ts';

let gateway: TestGateway;
let cli: TestCli;
/** Of `hello`, oldest first; the last is live. */
let ids: string[];

beforeAll(async () => {
  gateway = await startGateway();
});
afterAll(() => gateway?.close());

beforeEach(async () => {
  cli = await createCli({ SKIFF_URL: gateway.url, SKIFF_DATA_DIR: gateway.dataDir });
  const catalog = openCatalog(gateway.durableRedis);
  for (const { name } of await catalog.listFunctions()) await catalog.removeFunction(name);
  await gateway.fastRedis.flushall();
  const nowMs = Date.now();
  const deployments = [120_000, 60_000, 0].map((age) =>
    createDeployment('hello', { createdMs: nowMs - age, config: { env: { STAGE: 'x' } } }),
  );
  for (const deployment of deployments) await catalog.putDeployment(deployment);
  ids = deployments.map(({ id }) => id);
  await catalog.setAlias('hello', 'live', [{ deployment: ids[2] as string, weight: 100 }]);
});
afterEach(() => cli.close());

async function output(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await cli.run(args);
  expect([code, stderr]).toEqual([0, '']);
  return stdout;
}
const json = async (...args: string[]) => JSON.parse(await output(...args, '--json')) as unknown;

describe('functions', () => {
  test('ls shows a table, names, or JSON; the rivals\u2019 names for it work', async () => {
    expect(await output('ls')).toMatch(
      new RegExp(`^NAME +LIVE .*\\nhello +${ids[2]} .*${gateway.url}/f/hello\\n$`),
    );
    expect(await output('list', '-q')).toBe('hello\n');
    expect(await json('ps')).toMatchObject([{ name: 'hello', url: `${gateway.url}/f/hello` }]);
  });

  test('ls says how to begin when there is nothing', async () => {
    await cli.run(['rm', 'hello']);
    const { code, stdout, stderr } = await cli.run(['ls']);
    expect([code, stdout]).toEqual([0, '']);
    expect(stderr).toContain('skiff init hello && skiff deploy hello');
  });

  test('inspect shows the configuration, and of variables only the names', async () => {
    const text = await output('inspect', 'hello');
    expect(text).toContain('memory       256 MB');
    expect(text).toMatch(/env +STAGE\n/);
    expect(await json('describe', 'hello')).toMatchObject({
      function: { name: 'hello' },
      live: [{ id: ids[2], config: { env: { STAGE: 'x' } } }],
    });
  });

  test('rm removes, names what it removed, and is strict unless forced', async () => {
    expect(await output('rm', 'hello')).toBe('hello\n');
    const again = await cli.run(['rm', 'hello']);
    expect([again.code, again.stderr]).toEqual([1, expect.stringContaining('no function "hello"')]);
    expect(await output('remove', '--force', 'hello')).toBe('');
  });

  test('open prints the URL where there is no screen', async () => {
    expect(await output('open', 'hello')).toBe(`${gateway.url}/f/hello\n`);
  });
});

describe('releases', () => {
  test('versions lists newest first with their traffic', async () => {
    const lines = (await output('versions', 'hello')).split('\n');
    expect(lines[1]).toMatch(new RegExp(`^${ids[2]} +now +100%`));
    expect(lines[3]).toMatch(new RegExp(`^${ids[0]} +2 min ago`));
    expect(await output('versions', 'hello', '-q')).toBe(`${ids.toReversed().join('\n')}\n`);
  });

  test('rollback, canary, promote', async () => {
    expect(await output('rollback', 'hello')).toBe(`hello live: ${ids[1]}\n`);
    expect(await output('promote', 'hello', '--percent', '10%')).toBe(
      `hello live: 10% ${ids[2]}, 90% ${ids[1]}\n`,
    );
    expect(await output('rollback', 'hello', ids[0] as string)).toBe(`hello live: ${ids[0]}\n`);
    expect(await json('promote', 'hello')).toMatchObject({
      name: 'live',
      targets: [{ deployment: ids[2], weight: 100 }],
    });
  });

  test('a share that cannot be is a usage error', async () => {
    const { code, stderr } = await cli.run(['promote', 'hello', '--percent', '101']);
    expect([code, stderr]).toEqual([2, expect.stringContaining('whole percents from 1 to 100')]);
  });
});

describe('logs', () => {
  async function write(lines: readonly Partial<LogLine>[]): Promise<void> {
    for (const line of lines) {
      const full = { atMs: Date.now(), level: 'info', source: 'app', message: '', ...line };
      await gateway.fastRedis.xadd(fast.logs('hello'), '*', 'l', JSON.stringify(full));
    }
  }

  test('shows level, invocation, message and fields', async () => {
    const atMs = Date.UTC(2026, 0, 2, 3, 4, 5, 6);
    await write([
      { atMs, message: 'made', fields: { n: 1 }, invocation: 'inv-00000000000000000012345678' },
      { atMs, level: 'error', source: 'platform', message: 'out of memory' },
    ]);
    expect(await output('logs', 'hello')).toBe(
      '03:04:05.006 info  12345678 made {"n":1}\n03:04:05.006 error -        skiff: out of memory\n',
    );
    expect(await output('logs', 'hello', '-t', '-n', '1')).toMatch(/^2026-01-02T03:04:05\.006Z error/);
  });

  test('filters by level, invocation and number', async () => {
    await write([
      { message: 'a', level: 'warn' },
      { message: 'b', invocation: 'inv-1' },
      { message: 'c', level: 'error' },
    ]);
    const messages = async (...args: string[]) =>
      (await output('logs', 'hello', '--json', ...args))
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as LogLine).message);
    expect(await messages('--level', 'warn')).toEqual(['a', 'c']);
    expect(await messages('--invocation', 'inv-1')).toEqual(['b']);
    expect(await messages('--tail', '2')).toEqual(['b', 'c']);
    expect(await messages('--since', '1h')).toEqual(['a', 'b', 'c']);
  });

  test('-f shows new lines until Ctrl-C', async () => {
    await write([{ message: 'past' }]);
    const running = cli.start(['logs', 'hello', '-f']);
    await waitFor('the past line', () => running.stdout().includes('past'));
    await write([{ message: 'new' }]);
    await waitFor('the new line', () => running.stdout().includes('new'));
    running.process.kill('SIGINT');
    expect((await running.ended).code).toBe(130);
  });

  test('what a function logs cannot steer the terminal', async () => {
    await write([{ message: 'a\u001b]0;title\u0007b\rc\td' }]);
    expect(await output('logs', 'hello')).toContain('a\ufffd]0;title\ufffdb\ufffdc\td\n');
  });
});

describe('the server', () => {
  test('df shows every store', async () => {
    expect(await output('df')).toMatch(/^STORE .*\n[\s\S]*redis durable +\d/);
    expect(await json('df')).toEqual(
      expect.arrayContaining([expect.objectContaining({ store: 'functions', count: 1 })]),
    );
  });

  test('node ls and inspect show a runner that is alive', async () => {
    const node: NodeRecord = {
      id: 'run-1',
      hostname: 'web-1',
      epoch: 'e',
      startedMs: Date.now(),
      heartbeatMs: Date.now(),
      availability: 'active',
      labels: { zone: 'a' },
      version: '0.1.0',
      link: 'unix:/x',
      capacity: { memoryBytes: 2 * 1024 ** 3, cpus: 2 },
      used: { memoryBytes: 1024 ** 3, sandboxes: 3, busySlots: 1, stems: 2 },
    };
    await gateway.fastRedis.set(fast.node('run-1'), JSON.stringify(node));
    await gateway.fastRedis.zadd(fast.nodes, Date.now(), 'run-1');
    await gateway.fastRedis.set(fast.alive('run-1'), 'e');
    expect(await output('node', 'ls')).toMatch(
      /\nrun-1 +web-1 +ready +active +3 +1 +1 GB of 2 GB +2 +now +0\.1\.0\n/,
    );
    expect(await output('node', 'inspect', 'web-1')).toContain('labels        zone=a');
    const { code, stderr } = await cli.run(['node', 'inspect', 'web-2']);
    expect([code, stderr]).toEqual([2, expect.stringContaining('no node "web-2"')]);
  });
});

describe('access', () => {
  test('a token is made once, listed without itself, and revoked', async () => {
    const made = await cli.run(['token', 'create', 'ci', '--scope', 'read', '--expires', '90d']);
    expect([made.code, made.stdout]).toEqual([0, expect.stringMatching(/^skiff_\S+\n$/)]);
    const id = /^(tok-\S+) may read/.exec(made.stderr)?.[1] as string;
    const listed = await output('token', 'ls');
    expect(listed).toMatch(new RegExp(`${id} +ci +read +all +now +20\\d\\d-`));
    expect(listed).not.toContain(made.stdout.trim());

    const env = { SKIFF_TOKEN: made.stdout.trim() };
    expect((await cli.run(['ls', '-q'], { env })).stdout).toBe('hello\n');
    const forbidden = await cli.run(['rm', 'hello'], { env });
    expect([forbidden.code, forbidden.stderr]).toEqual([
      1,
      expect.stringContaining('hint: an admin makes a token that may'),
    ]);
    expect(await output('token', 'rm', id)).toBe(`${id}\n`);
    const gone = await waitFor('the token is void', async () => {
      const result = await cli.run(['ls'], { env });
      return result.code !== 0 && result;
    });
    expect([gone.code, gone.stderr]).toEqual([
      1,
      expect.stringContaining('the token is not known to the server'),
    ]);
  });

  test('login saves a server after its token was checked, and later commands go there', async () => {
    const env = { SKIFF_URL: '', SKIFF_DATA_DIR: `${cli.home}/none` };
    const wrong = await cli.run(['login', gateway.url, '--name', 'here'], { env, input: 'wrong\n' });
    expect([wrong.code, wrong.stderr]).toEqual([
      1,
      expect.stringContaining('does not know this token; nothing was saved'),
    ]);
    const right = await cli.run(['login', gateway.url, '--name', 'here'], {
      env,
      input: `${gateway.adminToken}\n`,
    });
    expect([right.code, right.stderr]).toEqual([0, 'context "here" is saved and in use\n']);
    expect((await cli.run(['ls', '-q'], { env })).stdout).toBe('hello\n');
    expect((await cli.run(['context', 'ls'], { env })).stdout).toMatch(/\* +here +http/);
    await cli.run(['context', 'use', '--none'], { env });
    expect((await cli.run(['--context', 'here', 'ls', '-q'], { env })).stdout).toBe('hello\n');
    await cli.run(['context', 'rm', 'here'], { env });
    expect(JSON.parse((await cli.run(['context', 'ls', '--json'], { env })).stdout)).toEqual({
      contexts: [],
    });
  });
});

test('bash completes commands, options, and functions of the server', async () => {
  const script = `
    source <(skiff completion bash)
    for line in 'skiff rollb' 'skiff invoke he' 'skiff logs --fol' 'skiff token cr' 'skiff logs --level wa' 'skiff invoke $(touch pwned) '; do
      read -ra COMP_WORDS <<< "$line"; [[ $line == *' ' ]] && COMP_WORDS+=('')
      COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _skiff; echo "\${COMPREPLY[*]}"
    done; ls`;
  const { execFile } = await import('node:child_process');
  const { promisify } = await import('node:util');
  const bin = new URL('../../../sdk/cli', import.meta.url).pathname;
  const env = {
    PATH: `${bin}:/usr/bin:/bin`,
    HOME: cli.home,
    SKIFF_URL: gateway.url,
    SKIFF_DATA_DIR: gateway.dataDir,
  };
  const { stdout } = await promisify(execFile)('bash', ['-c', script], { cwd: cli.home, env });
  expect(stdout.split('\n')).toEqual(['rollback', 'hello', '--follow', 'create', 'warn', '', '']);
});
