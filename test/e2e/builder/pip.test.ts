/** Python packages of deployed functions: real pip in a real sandbox, against an index of the test's own. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createClient, type Client } from '../../../sdk/client/index.ts';
import { findSource } from '../../../sdk/cli/source/files.ts';
import { packSource } from '../../../sdk/cli/source/pack.ts';
import { startPipIndex, type TestPipIndex } from '../../helpers/pip-index.ts';
import { startServer, type TestServer } from '../../helpers/server.ts';
import { createSourceFolder } from '../../helpers/source-folder.ts';

let index: TestPipIndex;
let server: TestServer;
let client: Client;

beforeAll(async () => {
  index = await startPipIndex([
    {
      name: 'greet',
      version: '1.2.0',
      requires: ['hello-words>=2'],
      files: {
        'greet/__init__.py':
          'from hello_words import WORD\n\ndef greet(name):\n    return f"{WORD} {name}"\n',
      },
    },
    { name: 'hello_words', version: '2.0.1', files: { 'hello_words.py': 'WORD = "hello"\n' } },
    { name: 'broken', version: '1.0.0', files: { 'broken.py': '' } },
  ]);
  server = await startServer({ env: { SKIFF_PIP_INDEX: index.url } });
  client = createClient({ url: server.url, token: server.adminToken });
}, 120_000);
afterAll(async () => {
  await server?.stop();
  await index?.close();
});

async function deploy(name: string, files: Record<string, string>): Promise<{ text: string; log: string[] }> {
  await using folder = await createSourceFolder(files);
  const log: string[] = [];
  const { url } = await client.deploy(name, {
    source: () => packSource(findSource(folder.path).files),
    config: {},
    onEvent: (event) => {
      if (event.type === 'log') log.push(event.message);
    },
  });
  return { text: await (await fetch(url)).text(), log };
}

const GREET = 'from greet import greet\n\ndef handler(request, ctx):\n    return greet("you")\n';

test('installs what requirements.txt names, with what that needs', async () => {
  const { text, log } = await deploy('greeter', { 'requirements.txt': 'greet>=1\n', 'main.py': GREET });
  expect(text).toBe('hello you');
  expect(log).toContainEqual(expect.stringContaining('greet>=1 has no exact version'));
  expect(index.requests).toEqual(
    expect.arrayContaining(['GET /simple/greet/', 'GET /far/away/hello_words-2.0.1-py3-none-any.whl']),
  );
}, 180_000);

test('asks the index nothing when only the code changed', async () => {
  index.requests.length = 0;
  const { text } = await deploy('greeter', {
    'requirements.txt': 'greet>=1\n',
    'main.py': GREET.replace('you', 'again'),
  });
  expect(text).toBe('hello again');
  expect(index.requests).toEqual([]);
});

test('a package that is not there fails the build with the words of pip', async () => {
  await expect(
    deploy('nowhere', { 'requirements.txt': 'no-such-package==1\n', 'main.py': GREET }),
  ).rejects.toMatchObject({
    code: 'BUILD_FAILED',
    message: expect.stringMatching(/pip install failed: .*no-such-package/),
  });
});

test('a wheel with other bytes than the index says is refused', async () => {
  index.damage('broken');
  await expect(
    deploy('broken', { 'requirements.txt': 'broken==1.0.0\n', 'main.py': GREET }),
  ).rejects.toMatchObject({
    code: 'BUILD_FAILED',
    message: expect.stringMatching(/HASHES|hash|BadZip|zip/i),
  });
});

test.each([
  'git+https://example.test/x.git',
  './local',
  '--index-url http://example.test/',
  'x @ https://example.test/x.whl',
  '-e .',
])('refuses "%s" in requirements.txt', async (line) => {
  await expect(
    deploy('refused', { 'requirements.txt': `greet\n${line}\n`, 'main.py': GREET }),
  ).rejects.toMatchObject({
    code: 'INVALID_SOURCE',
  });
});

test('an index that does not answer is not the function to blame', async () => {
  index.failWith(503);
  await expect(
    deploy('away', { 'requirements.txt': 'greet==1.2.0\n', 'main.py': GREET }),
  ).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    message: expect.stringContaining('SKIFF_PIP_INDEX'),
  });
  index.failWith(undefined);
});
