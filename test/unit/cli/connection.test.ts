/** Which server, which token: and never a token for a server that it does not belong to. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { contextsPath, readContexts, writeContexts } from '../../../sdk/cli/connection/contexts.ts';
import { isLoopback } from '../../../sdk/cli/connection/local-server.ts';
import { chooseServer } from '../../../sdk/cli/connection/server.ts';

let home: string;
let env: Record<string, string>;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'skiff-home-'));
  env = { HOME: home, SKIFF_DATA_DIR: join(home, 'data') };
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

function writeLocalServer(url = 'http://127.0.0.1:9123'): void {
  mkdirSync(join(home, 'data', 'run'), { recursive: true });
  writeFileSync(join(home, 'data', 'admin.token'), 'admin-secret\n');
  writeFileSync(join(home, 'data', 'run', 'server.json'), JSON.stringify({ pid: 1, url }));
}

const choose = (globals = {}) => {
  const { url, token } = chooseServer({ env, globals });
  return [url, token];
};

describe('the server', () => {
  test('is the default one when nothing is known', () => {
    expect(choose()).toEqual(['http://127.0.0.1:8080', undefined]);
    env['SKIFF_GATEWAY_PORT'] = '9000';
    expect(choose()).toEqual(['http://127.0.0.1:9000', undefined]);
  });

  test('is that of this host, with the token in its data folder', () => {
    writeLocalServer();
    expect(choose()).toEqual(['http://127.0.0.1:9123', 'admin-secret']);
  });

  test('is chosen by flag, then SKIFF_URL, then context, then this host', () => {
    writeLocalServer();
    writeContexts(env, {
      current: 'prod',
      contexts: { prod: { url: 'https://prod', token: 'p' }, test: { url: 'https://test' } },
    });
    expect(choose()).toEqual(['https://prod', 'p']);
    env['SKIFF_URL'] = 'http://localhost:7000/';
    expect(choose()).toEqual(['http://localhost:7000', 'admin-secret']);
    expect(choose({ context: 'prod' })).toEqual(['https://prod', 'p']);
    expect(choose({ url: 'http://[::1]:1' })).toEqual(['http://[::1]:1', 'admin-secret']);
  });

  test.each(['ftp://x', 'localhost:8080', 'nonsense'])('is refused when its URL is %s', (url) => {
    expect(() => choose({ url })).toThrow(/is not a server's URL/);
  });
});

describe('a token', () => {
  beforeEach(() => writeLocalServer());

  test('of this host is not shown to another', () => {
    expect(choose({ url: 'https://elsewhere.example' })).toEqual(['https://elsewhere.example', undefined]);
    env['SKIFF_URL'] = 'http://127.0.0.1.example.org';
    expect(choose()).toEqual(['http://127.0.0.1.example.org', undefined]);
  });

  test('of a context is not shown to the server of --url', () => {
    writeContexts(env, { current: 'prod', contexts: { prod: { url: 'https://prod', token: 'p' } } });
    expect(choose({ url: 'https://other' })).toEqual(['https://other', undefined]);
  });

  test('given by flag or setting comes first; a file may hold it', () => {
    env['SKIFF_TOKEN_FILE'] = join(home, 'data', 'admin.token');
    expect(choose({ url: 'https://other' })).toEqual(['https://other', 'admin-secret']);
    env['SKIFF_TOKEN'] = 'from-env';
    expect(choose()[1]).toBe('from-env');
    expect(choose({ token: 'from-flag' })[1]).toBe('from-flag');
  });
});

test('only loopback names are loopback', () => {
  expect(
    ['http://127.0.0.1', 'http://127.8.9.10:1', 'http://localhost', 'http://[::1]'].map(isLoopback),
  ).toEqual([true, true, true, true]);
  expect(
    ['http://127.0.0.1.evil', 'http://localhost.evil', 'http://10.0.0.1', 'http://[::2]'].map(isLoopback),
  ).toEqual([false, false, false, false]);
});

describe('contexts', () => {
  test('are kept in a file that only its owner reads', () => {
    writeContexts(env, { current: 'a', contexts: { a: { url: 'https://a', token: 's' } } });
    expect(statSync(contextsPath(env)).mode & 0o777).toBe(0o600);
    expect(readContexts(env)).toEqual({ current: 'a', contexts: { a: { url: 'https://a', token: 's' } } });
    expect(readFileSync(contextsPath(env), 'utf8')).toContain('https://a');
  });

  test('an unknown one is named beside those that are known', () => {
    writeContexts(env, { contexts: { a: { url: 'https://a' } } });
    expect(() => choose({ context: 'b' })).toThrow('there is no context "b"');
    expect(() => choose({ context: 'constructor' })).toThrow('there is no context "constructor"');
  });

  test('a broken file is an error with its path, not an empty list', () => {
    mkdirSync(join(home, '.config', 'skiff'), { recursive: true });
    writeFileSync(contextsPath(env), '{');
    expect(() => readContexts(env)).toThrow(/contexts\.json is not JSON/);
  });
});
