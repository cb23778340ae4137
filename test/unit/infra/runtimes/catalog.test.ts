/** A runtime is one folder: what the catalog has of it is whole, and nothing else in the platform names it. */
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { runtimeEnv, tryFindRuntime } from '../../../../infra/runtimes/catalog.ts';
import { FunctionConfig } from '../../../../sdk/protocol/manifest.ts';

const ROOT = join(import.meta.dirname, '../../../..');
const RUNTIMES = join(ROOT, 'infra/runtimes');
const NAMES = ['node:22', 'node:24', 'node:26', 'bun', 'deno', 'python:3.11'];

describe.each(NAMES)('%s', (name) => {
  test('has all of the contract', () => {
    const runtime = tryFindRuntime(name);
    expect(runtime).toMatchObject({ name, title: expect.any(String), language: expect.any(String) });
    expect(FunctionConfig.parse({ runtime: name }).runtime).toBe(name);
    expect(runtime?.base.packages.length).toBeGreaterThan(0);
    expect(runtime?.command(128 * 1024 ** 2).length).toBeGreaterThan(0);
    expect(runtimeEnv(runtime as NonNullable<typeof runtime>)).toMatchObject({ HOME: '/tmp' });
    const { program } = runtime?.base ?? {};
    if (program) expect(Object.keys(program.packages)).toEqual(expect.arrayContaining(['x64', 'arm64']));
  });
});

describe('a new one', () => {
  let copy: string;

  beforeEach(() => {
    copy = mkdtempSync(join(tmpdir(), 'skiff-runtimes-'));
    mkdirSync(join(copy, 'infra'));
    cpSync(RUNTIMES, join(copy, 'infra/runtimes'), { recursive: true });
    for (const name of ['sdk', 'node_modules', 'package.json'])
      symlinkSync(join(ROOT, name), join(copy, name));
  });
  afterEach(() => rmSync(copy, { recursive: true, force: true }));

  test('is a folder with a runtime.ts, and nothing else', async () => {
    mkdirSync(join(copy, 'infra/runtimes/quick'));
    writeFileSync(
      join(copy, 'infra/runtimes/quick/runtime.ts'),
      `export default [{ name: 'quick:1', language: 'javascript', title: 'Quick 1', base: { packages: ['libc6'] },
        guest: { bundle: 'sdk/guest/main.ts', target: 'node20', path: 'skiff/guest.cjs' },
        command: () => ['/usr/bin/quick'], env: {} }];`,
    );
    const catalog = (await import(pathToFileURL(join(copy, 'infra/runtimes/catalog.ts')).href)) as {
      findRuntime(name: string): { title: string };
    };
    expect(catalog.findRuntime('quick:1').title).toBe('Quick 1');
    expect(() => catalog.findRuntime('slow:1')).toThrow(/known are .*quick:1/);
  });
});

test('no service asks for a runtime by its name, but for the one that is made ready first', () => {
  const named: string[] = [];
  for (const service of ['gateway', 'builder', 'runner']) {
    for (const entry of readdirSync(join(ROOT, service), { recursive: true, encoding: 'utf8' })) {
      if (!entry.endsWith('.ts')) continue;
      const text = readFileSync(join(ROOT, service, entry), 'utf8');
      for (const [found] of text.matchAll(/'(?:node|bun|deno|python):\d[^']*'/g))
        named.push(`${service}/${entry} ${found}`);
    }
  }
  expect(named).toEqual(["builder/main.ts 'node:26'"]);
});
