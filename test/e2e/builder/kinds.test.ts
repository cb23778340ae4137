/** What people bring: packages with compiled addons, WebAssembly, images for other tools. On real sandboxes. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import { dataPaths, type ServerState } from '../../../infra/contract/paths.ts';
import { hostPaths } from '../../../infra/host/data-folder.ts';
import { findSource } from '../../../sdk/cli/source/files.ts';
import { packSource } from '../../../sdk/cli/source/pack.ts';
import { functionFixture } from '../../helpers/fixtures.ts';
import { useServer } from '../../helpers/shared-server.ts';
import { createSourceFolder } from '../../helpers/source-folder.ts';

const run = promisify(execFile);
const server = useServer();

/** (module (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add)) */
const ADD_WASM = Buffer.from(
  '0061736d0100000001070160027f7f017f030201000707010361646400000a09010700200020016a0b',
  'hex',
);

/** Width and height out of the start-of-frame segment. */
function sizeOfJpeg(bytes: Buffer): [width: number, height: number] {
  for (let at = 2; at < bytes.length; at += 2 + bytes.readUInt16BE(at + 2)) {
    const marker = bytes[at + 1] as number;
    if (marker >= 0xc0 && marker <= 0xc3) return [bytes.readUInt16BE(at + 7), bytes.readUInt16BE(at + 5)];
  }
  throw new Error('no frame in the JPEG');
}

describe('functions', () => {
  it('Hono with zod and a compiled SQLite: requests are validated, rows are kept and read', async () => {
    const url = await server.deploy('notes', functionFixture('notes'), { max: 1 });
    const post = (body: object): Promise<Response> =>
      fetch(`${url}/notes`, {
        method: 'POST',
        body: JSON.stringify(body),
        headers: { 'content-type': 'application/json' },
      });
    expect((await post({ text: 'one', stars: 3 })).status).toBe(201);
    const refused = await post({ text: '', stars: 9 });
    expect([refused.status, await refused.json()]).toEqual([400, { issues: ['text', 'stars'] }]);
    expect(await (await fetch(`${url}/notes`)).json()).toEqual([{ text: 'one', stars: 3 }]);
  }, 120_000);

  it('sharp makes a thumbnail of a JPEG', async () => {
    const url = await server.deploy('thumbnail', functionFixture('thumbnail'), { memory: '512MB' });
    const original = Buffer.from(await (await fetch(url)).arrayBuffer());
    expect(sizeOfJpeg(original)).toEqual([640, 480]);
    const response = await fetch(url, { method: 'POST', body: original });
    expect(response.headers.get('content-type')).toBe('image/jpeg');
    expect(sizeOfJpeg(Buffer.from(await response.arrayBuffer()))).toEqual([64, 48]);
  }, 120_000);

  it('a WebAssembly module that is imported runs', async () => {
    await using folder = await createSourceFolder({
      'index.ts': `import bytes from './add.wasm';
const { instance } = await WebAssembly.instantiate(bytes);
const add = instance.exports['add'] as (a: number, b: number) => number;
export default () => new Response(String(add(40, 2)));`,
      'add.wasm': ADD_WASM,
    });
    const url = await server.deploy('wasm-add', folder.path);
    expect(await (await fetch(url)).text()).toBe('42');
  });
});

describe('every kind of image', () => {
  it('is inspected and copied by skopeo, and the same source gives the same digest again', async () => {
    const containerfile = 'FROM skiff/node:26\nENTRYPOINT ["/usr/bin/node", "/srv/s.js"]\nCOPY s.js /srv/\n';
    await using image = await createSourceFolder({
      Containerfile: containerfile,
      's.js': `require('node:http').createServer((_, response) => response.end('x')).listen(process.env.PORT);`,
    });
    await using python = await createSourceFolder({
      'main.py': 'def handler(request, ctx):\n    return "py"\n',
    });
    await server.deploy('skopeo-image', image.path);
    await server.deploy('skopeo-python', python.path);
    await server.deploy('skopeo-native', functionFixture('native-crc'));

    const paths = dataPaths(server.dataDir);
    const { registryUrl } = JSON.parse(await readFile(paths.serverState, 'utf8')) as ServerState;
    const password = (await readFile(hostPaths(paths).registryPassword, 'utf8')).trim();
    const folder = await mkdtemp(join(tmpdir(), 'skiff-skopeo-'));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    for (const name of ['skopeo-image', 'skopeo-python', 'skopeo-native']) {
      const [deployment] = await server.client.deployments(name);
      const reference = deployment?.image.reference as string;
      const source = `docker://${new URL(registryUrl).host}/${reference}`;
      const login = `skiff:${password}`;
      const { stdout } = await run('skopeo', ['inspect', '--tls-verify=false', '--creds', login, source]);
      expect(JSON.parse(stdout)).toMatchObject({ Os: 'linux', Digest: deployment?.image.digest });
      const target = `oci:${join(folder, name)}:copy`;
      await run('skopeo', ['copy', '--src-tls-verify=false', '--src-creds', login, source, target]);
      const index = JSON.parse(await readFile(join(folder, name, 'index.json'), 'utf8')) as {
        manifests: { digest: string }[];
      };
      expect(index.manifests[0]?.digest).toBe(deployment?.image.digest);
    }
    const { image: again } = await server.client.buildImage('skopeo-native', packOf('native-crc'));
    const [deployment] = await server.client.deployments('skopeo-native');
    expect(again).toBe(deployment?.image.reference);
  }, 180_000);
});

function packOf(name: string) {
  const { files, entry } = findSource(functionFixture(name));
  return { source: () => packSource(files), entry };
}
