/** `skiff types`, and that what it writes compiles against the functions it was written from. */
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createCli, type TestCli } from '../../helpers/cli.ts';
import { answerJson, startHttpServer, type TestServer } from '../../helpers/http-server.ts';
import { functionFixture } from '../../helpers/fixtures.ts';
import { ROOT } from '../../helpers/source-tree.ts';

let cli: TestCli;
let server: TestServer;

beforeAll(async () => {
  const record = (name: string) => ({ name, createdMs: 0, url: `http://x/f/${name}`, deployments: [] });
  server = await startHttpServer((_, response) =>
    answerJson(response, 200, { functions: [record('sums'), record('elsewhere')] }),
  );
  cli = await createCli({ SKIFF_URL: server.url, SKIFF_TOKEN: 'secret' });
  const functions = join(cli.home, 'functions');
  mkdirSync(join(functions, 'count-down'), { recursive: true });
  cpSync(functionFixture('sums.ts'), join(functions, 'sums.ts'));
  cpSync(functionFixture('countdown.ts'), join(functions, 'count-down', 'index.ts'));
  writeFileSync(join(functions, 'old.js'), 'module.exports = () => new Response();');
});
afterAll(async () => {
  await cli.close();
  await server.close();
});

const USE = `
import { createClient } from 'skiff/client';
import type { Skiff } from './skiff';

const skiff: Skiff = createClient({ url: 'http://127.0.0.1:1' });
export async function use(): Promise<number> {
  const { sum, at } = await skiff.invoke('sums', { numbers: [1] });
  const text: string = at;
  // @ts-expect-error numbers are a list
  await skiff.invoke('sums', { numbers: 1 });
  // @ts-expect-error there is none of this name
  await skiff.invoke('sum', { numbers: [1] });
  const old: unknown = await skiff.invoke('old', { any: text });
  for await (const { n } of skiff.stream('count-down', { from: 3 })) n.toFixed();
  return sum + Number(old);
}
`;

async function compile(): Promise<string> {
  const compilerOptions = {
    module: 'esnext',
    moduleResolution: 'bundler',
    target: 'esnext',
    lib: ['esnext', 'dom', 'dom.asynciterable'],
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    types: ['node'],
    typeRoots: [join(ROOT, 'node_modules/@types')],
    // The sources of the package say .ts.
    allowImportingTsExtensions: true,
    paths: {
      skiff: [join(ROOT, 'sdk/authoring/index.ts')],
      'skiff/client': [join(ROOT, 'sdk/client/index.ts')],
    },
  };
  writeFileSync(join(cli.home, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['use.ts'] }));
  writeFileSync(join(cli.home, 'use.ts'), USE);
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  const run = promisify(execFile)(process.execPath, [tsc, '-p', cli.home]);
  return (await run.catch((error: unknown) => error as { stdout: string })).stdout;
}

test('functions of a folder become types that a client has by name', async () => {
  const { code, stderr } = await cli.run(['types', 'functions', '-o', 'skiff.d.ts']);
  expect([code, stderr]).toEqual([
    0,
    'skiff.d.ts: count-down, old, sums\nwithout types: old (no TypeScript module with a default export)\n',
  ]);
  expect(readFileSync(join(cli.home, 'skiff.d.ts'), 'utf8')).toContain(
    "import type countDownFunction from './functions/count-down/index.ts';",
  );
  symlinkSync(join(ROOT, 'node_modules'), join(cli.home, 'node_modules'));
  expect(await compile()).toBe('');
});

test('a module outside of declaration files is imported as every project may', async () => {
  await cli.run(['types', 'functions', '-o', 'src.ts']);
  expect(readFileSync(join(cli.home, 'src.ts'), 'utf8')).toContain("from './functions/sums.js';");
});

test('--check fails when the file is not what would be written', async () => {
  expect((await cli.run(['types', 'functions', '-o', 'skiff.d.ts', '--check'])).code).toBe(0);
  writeFileSync(join(cli.home, 'old.d.ts'), '// old');
  const { code, stderr } = await cli.run(['types', 'functions', '-o', 'old.d.ts', '--check']);
  expect([code, stderr]).toEqual([1, expect.stringContaining('old.d.ts is not what the functions say now')]);
  expect(readFileSync(join(cli.home, 'old.d.ts'), 'utf8')).toBe('// old');
  expect((await cli.run(['types', '--check'])).code).toBe(2);
});

test('functions of the server have their names, and types where the source is at hand', async () => {
  const names = await cli.run(['types', '--deployed']);
  expect(names.stdout).toContain('readonly elsewhere: JsonFunction<unknown, unknown>;');
  const { stdout } = await cli.run(['types', 'functions', '--deployed']);
  expect(stdout).toContain('readonly sums: typeof sumsFunction;');
  expect(stdout).not.toContain('old');
});
