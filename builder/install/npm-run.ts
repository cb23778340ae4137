/** One run of npm in a sandbox: what is mounted, what npm is told, and what its end means. */
import { chmod, chown, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Sandbox, SandboxExit, SandboxHost } from '../../infra/sandbox/contract.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { createId } from '../../sdk/protocol/ids.ts';
import {
  DEPENDENCIES_BYTES_MAX,
  INSTALL_MEMORY_BYTES,
  INSTALL_MS_MAX,
  TMP_BYTES_MAX,
} from '../../sdk/protocol/limits.ts';
import type { InstallPlan } from './plan.ts';
import { createTooLargeError, tryMeasure } from './settle.ts';

export interface NpmRun {
  readonly host: SandboxHost;
  /** Root file system with Node, topmost folder first. */
  readonly lowerDirs: readonly string[];
  /** Path of Node inside it. */
  readonly node: string;
  /** npm's own folder on this host. */
  readonly npmFolder: string;
  readonly plan: InstallPlan;
  /** Folder of this run; `tree/` in it is the result. */
  readonly folder: string;
  /** Folder that holds the mirror's socket `npm.sock`. */
  readonly channel: string;
  readonly signal: AbortSignal;
  readonly onLine: (line: string) => void;
}

const INSIDE = fileURLToPath(new URL('./inside/', import.meta.url));
const MEASURE_MS = 1_000;
const LINES_KEPT = 200;
const ERROR_LINES_SHOWN = 12;
const ERROR_LINE = /^npm (?:error|ERR!) ?/;
/** Lines that repeat others, or speak of files inside the sandbox. */
const NOISE = /^(?:code |E?\d{3}(?:$| Note that| tarball,)|\s*$|A complete log|Log files|\/install\/home)/;
const FLAGS = [
  '--ignore-scripts',
  '--omit=dev',
  '--no-audit',
  '--no-fund',
  '--no-update-notifier',
  '--no-progress',
  '--no-color',
  '--loglevel=warn',
  '--fetch-retries=2',
  '--fetch-retry-mintimeout=500',
  '--fetch-retry-maxtimeout=2000',
  '--replace-registry-host=always',
  '--registry=http://127.0.0.1:{port}/',
];

/**
 * Resolves when npm ended well. @throws SkiffError BUILD_FAILED with npm's own words; the reason of `signal`.
 * The caller removes `folder`.
 */
export async function runNpm(run: NpmRun): Promise<void> {
  const uid = run.host.allocateUid();
  await prepare(run, uid);
  const lines: string[] = [];
  const sandbox = await run.host.launch(createSpec(run, uid));
  const limits = enforceLimits(run, sandbox);
  const read = collectLines(sandbox, lines, run.onLine);
  const exit = await sandbox.exited;
  limits.stop();
  await read;
  run.signal.throwIfAborted();
  const error = limits.failure() ?? describeExit(exit, run, lines);
  if (error) throw error;
}

async function prepare(run: NpmRun, uid: number): Promise<void> {
  const tree = join(run.folder, 'tree');
  for (const folder of [run.folder, tree, join(run.folder, 'home')]) {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await chown(folder, uid, uid);
  }
  for (const { path, text } of run.plan.files) {
    const file = join(tree, path);
    let folder = tree;
    for (const part of path.split('/').slice(0, -1)) {
      folder = join(folder, part);
      await mkdir(folder, { recursive: true });
      await chown(folder, uid, uid);
    }
    await writeFile(file, text, { flag: 'wx' });
    await chown(file, uid, uid);
  }
  await chmod(run.channel, 0o711);
}

function createSpec(run: NpmRun, uid: number) {
  const npmArgs = [run.plan.command, ...FLAGS, '--cache=/install/home/cache'];
  return {
    id: createId('sbx'),
    uid,
    lowerDirs: run.lowerDirs,
    args: [
      run.node,
      '/skiff/install/run-npm.cjs',
      '/skiff/npm/bin/npm-cli.js',
      '/skiff/channel/npm.sock',
      ...npmArgs,
    ],
    env: {
      PATH: '/usr/local/bin:/usr/bin:/bin',
      HOME: '/install/home',
      TMPDIR: '/tmp',
      LANG: 'C.UTF-8',
      NODE_OPTIONS: '--max-old-space-size=700',
      NO_COLOR: '1',
      CI: '1',
    },
    cwd: '/install/tree',
    memoryBytes: INSTALL_MEMORY_BYTES,
    cpu: 2,
    pidsMax: 64,
    tmpBytes: TMP_BYTES_MAX,
    isolation: 'compat' as const,
    mounts: [
      { source: run.npmFolder, target: '/skiff/npm' },
      { source: INSIDE, target: '/skiff/install' },
      { source: run.channel, target: '/skiff/channel' },
      { source: run.folder, target: '/install', writable: true },
    ],
  };
}

/** Time and disk: the kernel limits the rest. Disk is looked at once a second, so a little more can be written. */
function enforceLimits(
  run: NpmRun,
  sandbox: Sandbox,
): { stop: () => void; failure: () => SkiffError | undefined } {
  let failure: SkiffError | undefined;
  let isMeasuring = false;
  const end = (error: SkiffError | undefined): void => {
    failure ??= error;
    sandbox.kill();
  };
  const onAbort = (): void => end(undefined);
  run.signal.addEventListener('abort', onAbort, { once: true });
  if (run.signal.aborted) onAbort();
  const timeout = setTimeout(
    () =>
      end(
        new SkiffError(
          'BUILD_FAILED',
          `installing the dependencies took longer than ${INSTALL_MS_MAX / 1_000} s`,
        ),
      ),
    INSTALL_MS_MAX,
  );
  const measure = setInterval(() => {
    if (isMeasuring) return;
    isMeasuring = true;
    void tryMeasure(run.folder, 2 * DEPENDENCIES_BYTES_MAX).then((bytes) => {
      isMeasuring = false;
      if (bytes === undefined) end(createTooLargeError());
    });
  }, MEASURE_MS);
  const stop = (): void => {
    clearTimeout(timeout);
    clearInterval(measure);
    run.signal.removeEventListener('abort', onAbort);
  };
  return { stop, failure: () => failure };
}

async function collectLines(
  sandbox: Sandbox,
  lines: string[],
  onLine: (line: string) => void,
): Promise<void> {
  const read = async (stream: NodeJS.ReadableStream): Promise<void> => {
    for await (const line of createInterface({ input: stream, crlfDelay: Infinity })) {
      if (line.trim() === '') continue;
      lines.push(line);
      if (lines.length > LINES_KEPT) lines.shift();
      // Errors are told once, in the failure itself.
      if (!ERROR_LINE.test(line)) onLine(hideMirror(line));
    }
  };
  await Promise.all([read(sandbox.stdout), read(sandbox.stderr)]);
}

function hideMirror(text: string): string {
  return text.replaceAll(/http:\/\/127\.0\.0\.1:\d+\//g, '').replaceAll('/install/tree/', '');
}

function describeExit(exit: SandboxExit, run: NpmRun, lines: readonly string[]): SkiffError | undefined {
  if (exit.outOfMemory)
    return new SkiffError(
      'BUILD_FAILED',
      `installing the dependencies needs more than ${INSTALL_MEMORY_BYTES} bytes of memory`,
    );
  if (exit.code === 0) return undefined;
  const said = lines
    .filter((line) => ERROR_LINE.test(line))
    .map((line) => hideMirror(line.replace(ERROR_LINE, '')))
    .filter((line) => !NOISE.test(line))
    .slice(0, ERROR_LINES_SHOWN);
  const words = said.length > 0 ? said.join('\n') : (lines.at(-1) ?? `it ended with code ${exit.code}`);
  return new SkiffError('BUILD_FAILED', `npm ${run.plan.command} failed: ${words}`, {
    details: { npm: said.join('\n') },
  });
}
