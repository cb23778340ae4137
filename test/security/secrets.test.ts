import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createClient, type Client } from '../../sdk/client/index.ts';
import { dataPaths } from '../../infra/contract/paths.ts';
import { hostPaths } from '../../infra/host/data-folder.ts';
import { waitFor } from '../helpers/wait.ts';
import { openBench, tryRead, type Bench, type Probe } from './probe.ts';

const VALUE = 'canary-51c7e0b9-value';

describe('secrets', () => {
  let bench: Bench;
  let client: Client;
  let holder: Probe;

  beforeAll(async () => {
    bench = await openBench('crun');
    client = createClient({ url: bench.server.url, token: bench.server.adminToken });
    await client.secrets.set('db-password', VALUE);
    holder = await bench.deploy('holder', { secrets: ['db-password'] });
  });
  afterAll(() => bench?.server.stop());

  const readBoth = () =>
    holder.run(({ load }) => ({
      variable: process.env['DB_PASSWORD'],
      file: load('fs').readFileSync('/run/secrets/db-password', 'utf8'),
      mode: load('fs').statSync('/run/secrets/db-password').mode & 0o777,
    }));

  it('reach their function as a variable and as a file for its eyes only', async () => {
    expect(await readBoth()).toEqual({ variable: VALUE, file: VALUE, mode: 0o400 });
  });

  it('F10: reach no other function', async () => {
    const other = await bench.deploy('other');
    const seen = await other.run(({ load }) => ({
      variable: process.env['DB_PASSWORD'] ?? 'none',
      files: load('fs').readdirSync('/run/secrets'),
    }));
    expect(seen).toEqual({ variable: 'none', files: [] });
  });

  it('F9 F10: are in no file of the data folder, no environment, no command line, no dump of a store', async () => {
    await readBoth();
    const { dataDir, state } = bench.server;
    const password = readFileSync(hostPaths(dataPaths(dataDir)).redisPassword, 'utf8').trim();
    for (const socket of ['redis.sock', 'fast.sock']) {
      const script = `local all = {} for _, key in ipairs(redis.call('keys', '*')) do all[#all + 1] = redis.call('dump', key) end return all`;
      const dump = execFileSync('redis-cli', ['-s', join(dataDir, 'run', socket), 'eval', script, '0'], {
        encoding: 'latin1',
        env: { PATH: process.env['PATH'], REDISCLI_AUTH: password },
      });
      expect(dump).not.toMatch(/NOAUTH|WRONGPASS|ERR /);
      // The fast store may hold next to nothing at a given moment; the durable one holds the secret itself.
      if (socket === 'redis.sock') expect(dump).toContain('db-password');
      expect(dump).not.toContain(VALUE);
    }
    // Sandboxes come and go, and their files with them: what is gone when it is read is passed over, nothing else.
    const entries = await waitFor('a list of all files', () => {
      try {
        return readdirSync(dataDir, { recursive: true, withFileTypes: true }).filter((one) => one.isFile());
      } catch {
        return false;
      }
    });
    let read = 0;
    for (const entry of entries) {
      const file = join(entry.parentPath, entry.name);
      if (file.includes('/store/') || file.includes('/registry/') || !existsSync(file)) continue;
      expect(tryRead(file).includes(VALUE), file).toBe(false);
      read++;
    }
    expect(read).toBeGreaterThan(20);
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      if (Number(pid) === process.pid) continue;
      const shown = tryRead(`/proc/${pid}/environ`) + tryRead(`/proc/${pid}/cmdline`);
      expect(shown.includes(VALUE), `process ${pid}`).toBe(false);
    }
    expect(Object.keys(state.processes)).toContain('runner');
  });

  it('F1: no answer of the API has a value', async () => {
    const paths = ['/v1/secrets', '/v1/functions/holder', '/v1/functions/holder/deployments', '/metrics'];
    for (const path of paths) expect(await (await bench.server.fetch(path)).text()).not.toContain(VALUE);
    expect(await client.secrets.list()).toMatchObject([{ name: 'db-password', version: 1 }]);
    expect((await bench.server.cli(['inspect', 'holder'])).stdout).toMatch(/secrets +db-password/);
  });

  it('F11: are taken out of the function\u2019s log, plain, as JSON and as base64', async () => {
    await holder.run(() => {
      const value = process.env['DB_PASSWORD'] ?? '';
      console.log(`plain ${value}`);
      console.error({ value });
      process.stdout.write(`raw ${Buffer.from(value).toString('base64')}\n`);
    });
    const lines = await waitFor('the log', async () => {
      const { stdout } = await bench.server.cli(['logs', 'holder', '--json']);
      return stdout.includes('raw ') && stdout.includes('plain ') ? stdout : undefined;
    });
    expect(lines).not.toContain(VALUE);
    expect(lines).not.toContain(Buffer.from(VALUE).toString('base64').slice(0, 20));
    expect(lines).toContain('plain [secret db-password]');
  });

  it('a new value reaches the next sandbox, and the old sandbox takes no more calls', async () => {
    await client.secrets.set('db-password', `${VALUE}-2`);
    await waitFor('the new value', async () => (await readBoth()).variable === `${VALUE}-2`);
  });

  it('F9: the key can be replaced while functions run', async () => {
    const file = join(bench.server.dataDir, 'secret.key');
    const before = readFileSync(file, 'utf8');
    expect((await bench.server.cli(['secret', 'rotate-key'])).stdout).toContain('1 secrets');
    expect(readFileSync(file, 'utf8')).not.toBe(before);
    expect(readFileSync(file, 'utf8').trim().split('\n')).toHaveLength(1);
    const next = await bench.deploy('next', { secrets: ['db-password'] });
    expect(await next.run(() => process.env['DB_PASSWORD'])).toBe(`${VALUE}-2`);
  });

  it('the command line sets, imports, lists and removes them', async () => {
    const file = join(bench.server.dataDir, 'import.env');
    writeFileSync(file, 'API_KEY=abcdefgh\nOTHER="two words"\n');
    expect((await bench.server.cli(['secret', 'import', file])).stdout).toBe(
      'API_KEY version 1\nOTHER version 1\n',
    );
    expect((await bench.server.cli(['secret', 'set', 'token', '--file', file])).stdout).toBe(
      'token version 1\n',
    );
    const { stdout } = await bench.server.cli(['secret', 'ls', '--json']);
    expect((JSON.parse(stdout) as { name: string }[]).map(({ name }) => name)).toEqual([
      'API_KEY',
      'OTHER',
      'db-password',
      'token',
    ]);
    expect((await bench.server.cli(['secret', 'rm', 'API_KEY', 'OTHER', 'token'])).code).toBe(0);
  });

  it('a function whose secret does not exist is not deployed, and the error says what to do', async () => {
    await expect(bench.deploy('lost', { secrets: ['nothing'] })).rejects.toThrow(/skiff secret set nothing/);
  });

  it.each(['SKIFF_URL', 'path', 'node-options', 'a b', '../x', 'LD_PRELOAD'])(
    '%s cannot be a name',
    async (name) => {
      await expect(client.secrets.set(name, VALUE)).rejects.toThrow();
    },
  );
});
