/**
 * From a deploy's start to the first byte of an answer, beside `docker build` and `docker run` of the same change. With
 * dependencies: fifty packages of a registry on loopback, so that no network is measured.
 */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { startNpmRegistry, type TestNpmRegistry } from '../../helpers/npm-registry.ts';
import type { Docker } from '../docker.ts';
import type { Record } from '../stats.ts';
import type { Subject } from '../subject.ts';

const run = promisify(execFile);
const PACKAGES = 50;
const MODULES_EACH = 20;

/** Packages of some twenty modules each, about 60 KB. Start it before the subject: it must know the URL. */
export function startBenchRegistry(): Promise<TestNpmRegistry> {
  const filler = (i: number): string => `exports.text${i} = () => '${'x'.repeat(2_500)}'.length + ${i};\n`;
  const packages = Array.from({ length: PACKAGES }, (_, p) => ({
    name: `bench-${p}`,
    version: '1.0.0',
    manifest: { main: 'index.js' },
    files: Object.fromEntries([
      ...Array.from({ length: MODULES_EACH }, (_each, m) => [`m${m}.js`, filler(m)] as const),
      [
        'index.js',
        `${Array.from({ length: MODULES_EACH }, (_each, m) => `Object.assign(exports, require('./m${m}.js'));`).join('\n')}\n`,
      ],
    ]),
  }));
  return startNpmRegistry(packages);
}

export async function deployRound(
  record: Record,
  subject: Subject,
  { docker, npm, samples }: { docker: Docker | undefined; npm: TestNpmRegistry; samples: number },
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'skiff-bench-deploy-'));
  const live = async (name: string, path: string): Promise<number> => {
    const started = performance.now();
    await subject.deploy(name, path);
    await subject.firstByteMs(name);
    return performance.now() - started;
  };
  try {
    for (let i = 0; i < samples; i++) {
      const file = join(folder, 'line.ts');
      await writeFile(file, `export default () => new Response('line ${i} ${Math.random()}');\n`);
      record.of('deploy of a one-line change to first byte', 'ms').add(await live('line', file));
      if (docker)
        record
          .of('B1 docker build and run of it', 'ms')
          .add(await docker.buildAndRunMs(`${i} ${Math.random()}`));
    }
    const app = await writeApp(join(folder, 'app'));
    record.of('deploy with 50 dependencies, nothing cached', 'ms').add(await live('fifty', app));
    await writeApp(join(folder, 'app'));
    record.of('the same after a change of the code', 'ms').add(await live('fifty', app));
    if (docker) {
      const started = performance.now();
      await run(
        'npm',
        [
          'install',
          '--no-audit',
          '--no-fund',
          '--ignore-scripts',
          `--registry=${npm.url}`,
          `--cache=${join(folder, 'cache')}`,
          '--replace-registry-host=always',
        ],
        { cwd: app },
      );
      const installMs = performance.now() - started;
      record
        .of('B1 npm install, docker build and run', 'ms')
        .add(installMs + (await docker.buildAndRunMs(String(Math.random()), join(app, 'node_modules'))));
    }
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Another key each time, so that an installed tree is there only for the second deploy. */
async function writeApp(folder: string): Promise<string> {
  const names = Array.from({ length: PACKAGES }, (_, p) => `bench-${p}`);
  await mkdir(folder, { recursive: true });
  const dependencies = Object.fromEntries(names.map((name) => [name, '1.0.0']));
  await writeFile(join(folder, 'package.json'), JSON.stringify({ name: 'fifty', dependencies }));
  const imports = names.map((name, i) => `import * as p${i} from '${name}';`).join('\n');
  const sum = names.map((_, i) => `Object.keys(p${i}).length`).join(' + ');
  await writeFile(
    join(folder, 'index.ts'),
    `${imports}\nexport default () => new Response(String(${sum}) + '${Math.random()}');\n`,
  );
  return folder;
}
