/** Images that are built of Containerfiles, by buildah in a sandbox, on a whole server. */
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import type { BuildEvent } from '../../../sdk/client/index.ts';
import { findSource } from '../../../sdk/cli/source/files.ts';
import { packSource } from '../../../sdk/cli/source/pack.ts';
import { findBusybox } from '../../helpers/busybox.ts';
import { useServer } from '../../helpers/shared-server.ts';
import { createSourceFolder } from '../../helpers/source-folder.ts';

const server = useServer();

interface Deployed {
  readonly url: string;
  readonly image: string;
  readonly log: string;
  readonly steps: readonly string[];
}

async function deploy(
  name: string,
  files: Readonly<Record<string, string | Buffer>>,
  options: {
    entry?: string;
    signal?: AbortSignal;
    onLog?: (line: string) => void;
    build?: Record<string, unknown>;
  } = {},
): Promise<Deployed> {
  await using folder = await createSourceFolder(files);
  const lines: string[] = [];
  const steps: string[] = [];
  const onEvent = (event: BuildEvent): void => {
    if (event.type === 'log') {
      lines.push(event.message);
      options.onLog?.(event.message);
    }
    if (event.type === 'step' && event.status === 'done') steps.push(event.step);
  };
  const found = findSource(folder.path);
  const { entry = found.entry, signal, build = {} } = options;
  const result = await server.client.deploy(name, {
    source: () => packSource(found.files),
    entry,
    onEvent,
    signal,
    config: { memory: '128MB', build },
  });
  return { url: result.url, image: result.image, log: lines.join('\n'), steps };
}

/** Writes down what a build can see and reach. */
const LOOK = `
const fs = require('node:fs'), net = require('node:net');
const status = fs.readFileSync('/proc/self/status', 'utf8');
const facts = {
  uid: process.getuid(),
  env: Object.keys(process.env),
  noNewPrivs: /NoNewPrivs:\\t1/.test(status),
  processes: fs.readdirSync('/proc').filter((name) => /^\\d+$/.test(name)).length,
  root: fs.readdirSync('/'),
  uidMap: fs.readFileSync('/proc/self/uid_map', 'utf8').trim().split(/\\s+/),
};
const socket = net.connect(Number(process.argv[2]), '127.0.0.1');
const done = (reached) => { fs.writeFileSync('/facts.json', JSON.stringify({ ...facts, reached })); process.exit(0); };
socket.on('connect', () => done('yes')).on('error', (error) => done(error.code));
`;

const SERVER = `
require('node:http').createServer((request, response) => {
  response.setHeader('content-type', 'application/json').end(require('node:fs').readFileSync('/facts.json'));
}).listen(process.env.PORT);
`;

describe('an image built FROM a base image of the platform', () => {
  it('runs, and its build had root over uids of its own, no network and nothing of the platform', async () => {
    const port = new URL(server.url).port;
    const { url, steps, log } = await deploy('cf-node', {
      Containerfile: `ARG VERSION=26
FROM skiff/node:\${VERSION}
USER 0
COPY look.js server.js /srv/
RUN ["/usr/bin/node", "/srv/look.js", "${port}"]
WORKDIR /srv
ENTRYPOINT ["/usr/bin/node", "server.js"]
`,
      'look.js': LOOK,
      'server.js': SERVER,
    });
    expect(steps).toEqual(expect.arrayContaining(['fetch', 'image', 'push', 'verify', 'activate']));
    expect(log).toContain('FROM skiff/node:26');
    const facts = (await (await fetch(url)).json()) as Record<string, unknown>;
    expect(facts).toMatchObject({ uid: 0, noNewPrivs: true, reached: 'ECONNREFUSED' });
    expect((facts['env'] as string[]).filter((name) => /TOKEN|PASSWORD|REGISTRY|REDIS/.test(name))).toEqual(
      [],
    );
    expect(facts['root']).not.toContain('build');
    expect(facts['processes']).toBeLessThan(12);
    const [inside, outside, size] = (facts['uidMap'] as string[]).map(Number);
    expect([inside, size]).toEqual([0, 65_536]);
    expect(outside).toBeGreaterThan(1_000_000);
  }, 120_000);
});

describe('arguments and stages', () => {
  const containerfile = `ARG VERSION=none
FROM skiff/node:\${VERSION} AS first
ARG WORDS=default
ENV WORDS=$WORDS
ENTRYPOINT ["/usr/bin/node", "-e", "require('node:http').createServer((request, response) => response.end(process.env.WORDS + ' ' + (process.env.STAGE ?? 'first'))).listen(process.env.PORT)"]

FROM first
ENV STAGE=last
`;
  it('are what the configuration says, and another choice is another image', async () => {
    const files = { Containerfile: containerfile };
    const args = { VERSION: '26', WORDS: 'two words $HOME' };
    const last = await deploy('cf-args', files, { build: { args } });
    expect(await (await fetch(last.url)).text()).toBe('two words $HOME last');
    const first = await deploy('cf-args', files, { build: { args, target: 'first' } });
    expect(await (await fetch(first.url)).text()).toBe('two words $HOME first');
    const again = await deploy('cf-args', files, { build: { args, target: 'first' } });
    expect(again.image).toBe(first.image);
    expect(again.log).toContain('is used again');
  }, 120_000);

  it('of no meaning are refused by their place, or by the build', async () => {
    const files = { Containerfile: containerfile };
    await expect(
      deploy('cf-args-bad', files, { build: { args: { 'not-a-name': 'x' } } }),
    ).rejects.toMatchObject({
      code: 'INVALID_CONFIG',
      message: expect.stringContaining('config.build.args.not-a-name'),
    });
    await expect(
      deploy('cf-args-bad', files, { build: { args: { VERSION: '26' }, target: 'third' } }),
    ).rejects.toMatchObject({ code: 'BUILD_FAILED', message: expect.stringContaining('third') });
  }, 60_000);
});

describe('an image built FROM scratch with a static busybox of Debian', () => {
  const containerfile = `FROM scratch AS tools
COPY --chmod=755 busybox /bin/busybox
RUN ["/bin/busybox", "ln", "-s", "busybox", "/bin/sh"]
RUN for name in mkdir chown cat id; do /bin/busybox ln -s busybox /bin/$name; done

FROM tools
COPY --from=tools /bin/busybox /opt/copied
COPY page.html /www/index.html
RUN mkdir /data && chown 33:33 /data && echo "built by $(id -u)" > /www/built.txt
ENV GREETING=hi
EXPOSE 9999
USER 33
CMD exec /bin/busybox httpd -f -p "$PORT" -h /www
`;

  it('serves its files; the same source is not built twice, and gives the same image elsewhere', async () => {
    const files = {
      'Dockerfile.web': containerfile,
      '.dockerignore': 'secret.txt\n',
      'secret.txt': 'x',
      busybox: await readFile(await findBusybox()),
      'page.html': '<h1>static</h1>',
    };
    const first = await deploy('cf-web', files, { entry: 'Dockerfile.web' });
    expect(await (await fetch(`${first.url}/index.html`)).text()).toBe('<h1>static</h1>');
    expect(await (await fetch(`${first.url}/built.txt`)).text()).toBe('built by 0\n');
    const again = await deploy('cf-web', files, { entry: 'Dockerfile.web' });
    expect(again.steps).not.toContain('image');
    expect(again.log).toContain('is used again');
    const elsewhere = await deploy('cf-web-2', files, { entry: 'Dockerfile.web' });
    expect(elsewhere.steps).toContain('image');
    expect(elsewhere.image.split('@')[1]).toBe(first.image.split('@')[1]);
  }, 120_000);
});

describe('a build that cannot be done says why', () => {
  it('a step that fails is named with its last words', async () => {
    const broken = `FROM skiff/node:26\nRUN ["/usr/bin/node", "-e", "console.error('no luck'); process.exit(7)"]\n`;
    await expect(deploy('cf-broken', { Containerfile: broken })).rejects.toMatchObject({
      code: 'BUILD_FAILED',
      message: expect.stringMatching(/STEP 2\/2: RUN[^]*no luck/),
    });
  }, 60_000);

  it.each([
    ['an image that is not there', 'FROM no/such:1\n', /there is no image "no\/such:1"/],
    ['no FROM', 'RUN true\n', /Containerfile has no FROM/],
    ['no command', 'FROM scratch\nCOPY Containerfile /x\n', /neither ENTRYPOINT nor CMD/],
    [
      'a mounted image',
      'FROM scratch\nRUN --mount=type=bind,from=a/b,target=/x true\n',
      /:2: RUN mounts image "a\/b"/,
    ],
  ])(
    '%s',
    async (_what, Containerfile, message) => {
      await expect(deploy('cf-refused', { Containerfile })).rejects.toMatchObject({
        code: 'INVALID_SOURCE',
        message: expect.stringMatching(message),
      });
    },
    60_000,
  );

  it('a build that is cancelled ends at once', async () => {
    const cancel = new AbortController();
    const started = performance.now();
    const Containerfile = `FROM skiff/node:26\nRUN ["/usr/bin/node", "-e", "setTimeout(() => {}, 1e6)"]\nCMD ["x"]\n`;
    let build = '';
    await using folder = await createSourceFolder({ Containerfile });
    const { files } = findSource(folder.path);
    const deploying = server.client.deploy('cf-cancelled', {
      source: () => packSource(files),
      signal: cancel.signal,
      onStarted: (order) => (build = order.build),
      onEvent(event) {
        if (event.type === 'log' && event.message.includes('STEP 2/3')) void server.client.cancelBuild(build);
      },
    });
    await expect(deploying).rejects.toMatchObject({ message: expect.stringContaining('cancelled') });
    expect(performance.now() - started).toBeLessThan(60_000);
  }, 90_000);
});
