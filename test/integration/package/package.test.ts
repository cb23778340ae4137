/** The npm package `skiff` as its users get it: packed, installed into an empty project, and run in several runtimes. */
import { execFile, spawn } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core';
import { publint } from 'publint';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { findProgram } from '../../../builder/base/npm-program.ts';
import bun from '../../../infra/runtimes/bun/runtime.ts';
import deno from '../../../infra/runtimes/deno/runtime.ts';
import type { NpmProgram, Runtime } from '../../../infra/runtimes/contract.ts';
import { createProblem } from '../../../sdk/protocol/errors.ts';
import { openBrowser } from '../../helpers/browser.ts';
import { answerJson, startHttpServer, type TestServer } from '../../helpers/http-server.ts';
import { freePorts } from '../../helpers/ports.ts';
import { ROOT } from '../../helpers/source-tree.ts';
import { waitFor } from '../../helpers/wait.ts';

const run = promisify(execFile);
const require = createRequire(import.meta.url);
const { default: workerd } = require('workerd') as { default: string };
const FIXTURES = join(ROOT, 'test/fixtures/package');
const MINUTE_MS = 60_000;

let folder: string;
let tarball: string;
let project: string;
let server: TestServer;
let busyCalls = 0;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'skiff-package-'));
  project = join(folder, 'project');
  mkdirSync(project);
  const env = { ...process.env, PATH: `${join(ROOT, 'node_modules/.bin')}:${process.env['PATH']}` };
  // Said here, as scripts of packages are off in this repository.
  await run(process.execPath, ['sdk/package/main.ts'], { cwd: ROOT });
  const packed = await run('npm', ['pack', './sdk', '--json', '--pack-destination', folder], {
    cwd: ROOT,
    env,
  });
  tarball = join(folder, (JSON.parse(packed.stdout) as { filename: string }[])[0]?.filename ?? '');
  writeFileSync(join(project, 'package.json'), '{ "name": "project", "private": true, "type": "module" }');
  await run('npm', ['install', '--offline', '--no-audit', '--no-fund', tarball], { cwd: project, env });
  copyFileSync(join(FIXTURES, 'calls.mjs'), join(project, 'calls.mjs'));
  server = await startHttpServer(({ url, body }, response) => {
    const input =
      body.length === 0 ? undefined : (JSON.parse(body.toString()) as { n?: number; to?: number });
    switch (new URL(url, 'http://x').pathname) {
      case '/f/double/':
        return answerJson(response, 200, { n: (input?.n ?? 0) * 2 });
      case '/f/count/':
        response.writeHead(200, { 'content-type': 'application/x-ndjson' });
        for (let n = 1; n <= (input?.to ?? 0); n++) response.write(`{"n":${n}}\n`);
        return void response.end();
      case '/f/plain/x':
        return void response.end(url);
      case '/f/busy/': {
        if (++busyCalls % 2 === 0) return answerJson(response, 200, 'ran');
        const headers = { 'retry-after': '0', 'skiff-cause': 'queue_expired' };
        return answerJson(response, 503, createProblem('QUEUE_EXPIRED', 'full'), headers);
      }
      case '/f/broken/':
        return answerJson(response, 500, createProblem('HANDLER_ERROR', 'it threw'));
      case '/page':
        return void response
          .writeHead(200, { 'content-type': 'text/html' })
          .end('<!doctype html><title>x</title>');
      case '/client.js':
      case '/calls.mjs': {
        const path = url === '/calls.mjs' ? 'calls.mjs' : 'node_modules/skiff/dist/client.js';
        response.writeHead(200, { 'content-type': 'text/javascript' });
        return void response.end(readFileSync(join(project, path)));
      }
    }
  });
}, 3 * MINUTE_MS);

afterAll(async () => {
  await server?.close();
  rmSync(folder, { recursive: true, force: true });
});

const SEEN = {
  invoked: { n: 42 },
  items: [1, 2, 3],
  text: '/f/plain/x?y=1',
  retried: 'ran',
  failure: ['ClientError', 'HANDLER_ERROR', 'handler_error'],
  aborted: 'AbortError',
};

const SCRIPT = `
  import * as client from 'skiff/client';
  import { defineFunction } from 'skiff';
  import { call } from './calls.mjs';
  const handler = defineFunction({ handle: (input) => input });
  const echoed = await (await handler.fetch(new Request('http://x/', { method: 'POST', body: '[1]' }))).json();
  console.log(JSON.stringify({ ...(await call(client, process.argv.at(-1))), echoed }));
`;

/** The same, as Cloudflare's runtime is given it. */
const WORKER = `
  import * as client from 'skiff/client';
  import { defineFunction } from 'skiff';
  import { call } from './calls.mjs';
  const handler = defineFunction({ handle: (input) => input });
  export default {
    async fetch(request) {
      const echoed = await (await handler.fetch(new Request('http://x/', { method: 'POST', body: '[1]' }))).json();
      const url = new URL(request.url).searchParams.get('url');
      return Response.json({ ...(await call(client, url)), echoed });
    },
  };
`;

/** The other entry runs handlers on the guest, which is all of a runtime's built-ins. */
const TESTING_SCRIPT = `
  import { createTestFunction } from 'skiff/testing';
  const fn = createTestFunction(async (request, context) => {
    console.log('called');
    context.waitUntil(Promise.resolve().then(() => context.log.info('later')));
    return new Response(await request.text() + context.env.A);
  }, { env: { A: '!' } });
  const text = await (await fn.fetch('/', { method: 'POST', body: 'hello' })).text();
  await fn.settled();
  console.log(JSON.stringify([text, fn.logs.map(({ message }) => message)]));
`;

async function runScript(program: string, args: readonly string[], script: string): Promise<unknown> {
  const file = join(project, 'script.mjs');
  writeFileSync(file, script);
  const { stdout } = await run(program, [...args, file, server.url], { cwd: project, timeout: MINUTE_MS });
  return JSON.parse(stdout);
}

/** As the builder brings them. */
async function openRuntime([runtime]: readonly Runtime[]): Promise<string> {
  const workDir = join(ROOT, '.cache/programs');
  const program = await findProgram(
    runtime?.base.program as NpmProgram,
    join(ROOT, 'node_modules'),
    workDir,
    undefined,
  );
  return program.open(() => {});
}

test('it installs alone and has no dependencies', () => {
  expect(readdirSync(join(project, 'node_modules')).filter((name) => !name.startsWith('.'))).toEqual([
    'skiff',
  ]);
  const manifest = JSON.parse(
    readFileSync(join(project, 'node_modules/skiff/package.json'), 'utf8'),
  ) as object;
  expect(Object.keys(manifest).filter((key) => /dependencies$/i.test(key))).toEqual([]);
});

test('publint has nothing to say', async () => {
  const { messages } = await publint({
    pkgDir: join(project, 'node_modules/skiff'),
    pack: false,
    level: 'suggestion',
    strict: true,
  });
  expect(messages).toEqual([]);
});

test('types are found as they are at run time by every resolution that knows ES modules', async () => {
  const result = await checkPackage(createPackageFromTarballData(new Uint8Array(readFileSync(tarball))));
  if (!('problems' in result)) throw new Error('the package has no types');
  // As attw's profile "esm-only": CommonJS has to import() it, and resolutions from before `exports` do not find entries.
  const ignored = ['node10', 'node16-cjs'];
  const problems = result.problems.filter(
    (problem) => !('resolutionKind' in problem && ignored.includes(problem.resolutionKind)),
  );
  expect(problems).toEqual([]);
});

test.each(['nodenext', 'bundler'])(
  'a project compiles against it strictly with resolution %s',
  async (resolution) => {
    copyFileSync(join(FIXTURES, 'consumer.ts'), join(project, 'consumer.ts'));
    const compilerOptions = {
      module: resolution === 'bundler' ? 'esnext' : 'nodenext',
      moduleResolution: resolution,
      target: 'esnext',
      lib: ['esnext', 'dom'],
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      skipLibCheck: false,
      noEmit: true,
      types: [],
    };
    writeFileSync(
      join(project, 'tsconfig.json'),
      JSON.stringify({ compilerOptions, files: ['consumer.ts'] }),
    );
    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
    const checked = await run(process.execPath, [tsc, '-p', project]).catch(
      (error: unknown) => error as { stdout: string },
    );
    expect(checked.stdout).toBe('');
  },
);

test('it runs in Node', async () => {
  expect(await runScript(process.execPath, [], SCRIPT)).toEqual({ ...SEEN, echoed: [1] });
  expect(await runScript(process.execPath, [], TESTING_SCRIPT)).toEqual(['hello!', ['called', 'later']]);
});

test('it runs in Bun', { timeout: 3 * MINUTE_MS }, async () => {
  const program = await openRuntime(bun);
  expect(await runScript(program, [], SCRIPT)).toEqual({ ...SEEN, echoed: [1] });
  expect(await runScript(program, [], TESTING_SCRIPT)).toEqual(['hello!', ['called', 'later']]);
});

test('it runs in Deno', { timeout: 3 * MINUTE_MS }, async () => {
  const program = await openRuntime(deno);
  const args = ['run', '--allow-all', '--no-prompt'];
  expect(await runScript(program, args, SCRIPT)).toEqual({ ...SEEN, echoed: [1] });
  expect(await runScript(program, args, TESTING_SCRIPT)).toEqual(['hello!', ['called', 'later']]);
});

test('the client runs in a browser', async () => {
  const browser = await openBrowser();
  try {
    const page = await browser.newPage();
    await page.goto(`${server.url}/page`);
    const seen = await page.evaluate(`(async () => {
      const [client, { call }] = await Promise.all([import('/client.js'), import('/calls.mjs')]);
      return call(client, location.origin);
    })()`);
    expect(seen).toEqual(SEEN);
  } finally {
    await browser.close();
  }
});

test('it runs in Workers', async () => {
  const [port] = await freePorts(1);
  const embed = (name: string, file: string): string => `(name = "${name}", esModule = embed "${file}")`;
  writeFileSync(join(project, 'worker.mjs'), WORKER);
  writeFileSync(
    join(project, 'workerd.capnp'),
    `using Workerd = import "/workerd/workerd.capnp";
    const config :Workerd.Config = (
      services = [(name = "main", worker = .worker), (name = "internet", network = (allow = ["private", "public"]))],
      sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "main")],
    );
    const worker :Workerd.Worker = (compatibilityDate = "2026-01-01", modules = [
      ${embed('worker.mjs', 'worker.mjs')}, ${embed('calls.mjs', 'calls.mjs')},
      ${embed('skiff', 'node_modules/skiff/dist/skiff.js')},
      ${embed('skiff/client', 'node_modules/skiff/dist/client.js')},
    ]);`,
  );
  const worker = spawn(workerd, ['serve', 'workerd.capnp'], { cwd: project, stdio: 'ignore' });
  try {
    const response = await waitFor('the worker to answer', () =>
      fetch(`http://127.0.0.1:${port}/?url=${encodeURIComponent(server.url)}`).catch(() => undefined),
    );
    expect(await response.json()).toEqual({ ...SEEN, echoed: [1] });
  } finally {
    worker.kill('SIGKILL');
  }
});
