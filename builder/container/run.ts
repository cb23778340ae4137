/**
 * One run of buildah in a sandbox: own limits, root over a range of uids that nothing else has, no network unless the
 * function's configuration gives one, and of the
 * platform neither a login nor a socket. What it may read is the source and the images the Containerfile names.
 */
import { createInterface } from 'node:readline';
import { chown, mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { IdRange, SandboxHost } from '../../infra/sandbox/contract.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import {
  CONTAINER_BUILD_BYTES_MAX,
  CONTAINER_BUILD_MEMORY_BYTES,
  CONTAINER_BUILD_MS_MAX,
  TMP_BYTES_MAX,
} from '../../sdk/protocol/limits.ts';
import { enforceLimits } from '../install/run-limits.ts';
import type { BuildNetwork } from './network.ts';
import { stagedName } from './containerfile.ts';

export interface BuildahRun {
  readonly host: SandboxHost;
  readonly ids: IdRange;
  /** See tools.ts. */
  readonly rootfs: string;
  /** The source. */
  readonly context: string;
  /** Of this run: `Containerfile` and `images/<index>` are in it, `out` will be. */
  readonly folder: string;
  /** Names that the Containerfile has for `images/<index>`. */
  readonly images: readonly string[];
  /** Values of its `ARG`s, and the stage that is asked for. */
  readonly args: Readonly<Record<string, string>>;
  readonly target: string | undefined;
  /** Of the sandbox. */
  readonly id: string;
  readonly network: BuildNetwork | undefined;
  readonly signal: AbortSignal;
  readonly onLine: (line: string) => void;
}

const PIDS_MAX = 512;
const LINES_KEPT = 30;
/** overlay where the data folder's file system can carry one, copies of files where not. */
const SCRIPT = `
set -e
driver=overlay
buildah --root /build/store --runroot /build/run --storage-driver overlay images -q >/dev/null 2>&1 || { driver=vfs; rm -rf /build/store; }
do_buildah() { buildah --root "$store" --runroot /build/run --storage-driver "$driver" "$@"; }
store=/build/store
[ "$driver" = overlay ] || store=/build/store-vfs
count=$1
shift
index=0
while [ "$index" -lt "$count" ]; do
  do_buildah pull -q "oci:/build/images/$index" >/dev/null
  index=$((index + 1))
done
do_buildah bud --isolation chroot --pull-never --layers=false --timestamp 0 --format oci --identity-label=false \
  "$@" --file /build/Containerfile --tag oci:/build/out:result /context
`;
/** Of buildah's own words, what says nothing to a person. */
const NOISE =
  /^(?:Getting image source signatures|Copying (?:blob|config) |Writing manifest|Storing signatures|-->|COMMIT )/;

/** @throws SkiffError BUILD_FAILED with the last words of the build; the reason of `signal` */
export async function runBuildah(run: BuildahRun): Promise<void> {
  for (const name of ['home', 'tmp', 'run', 'store', 'out'])
    await mkdir(join(run.folder, name), { mode: 0o700 });
  await giveAway(run.folder, run.ids.first);
  const lines: string[] = [];
  const sandbox = await run.host.launch(createSpec(run));
  run.network?.attach(() => sandbox.kill());
  const limits = enforceLimits(sandbox, {
    folder: run.folder,
    bytesMax: CONTAINER_BUILD_BYTES_MAX,
    msMax: CONTAINER_BUILD_MS_MAX,
    signal: run.signal,
    tooLarge: () =>
      new SkiffError('BUILD_FAILED', `the build takes more than ${CONTAINER_BUILD_BYTES_MAX} bytes of disk`),
    tooLong: () =>
      new SkiffError('BUILD_FAILED', `the build took longer than ${CONTAINER_BUILD_MS_MAX / 1_000} s`),
  });
  const read = async (stream: NodeJS.ReadableStream): Promise<void> => {
    for await (const line of createInterface({ input: stream, crlfDelay: Infinity })) {
      const text = hidePaths(line, run.images);
      if (text.trim() === '' || NOISE.test(text)) continue;
      lines.push(text);
      if (lines.length > LINES_KEPT) lines.shift();
      run.onLine(text);
    }
  };
  const output = Promise.all([read(sandbox.stdout), read(sandbox.stderr)]);
  const exit = await sandbox.exited;
  limits.stop();
  await output;
  run.signal.throwIfAborted();
  const failure = limits.failure();
  if (failure) throw failure;
  if (exit.outOfMemory)
    throw new SkiffError(
      'BUILD_FAILED',
      `the build needs more than ${CONTAINER_BUILD_MEMORY_BYTES} bytes of memory`,
    );
  if (exit.code !== 0) throw new SkiffError('BUILD_FAILED', describeEnd(lines, exit.code));
}

function flagsOf({ args, target }: BuildahRun): string[] {
  const named = Object.entries(args).flatMap(([name, value]) => ['--build-arg', `${name}=${value}`]);
  return target === undefined ? named : [...named, '--target', target];
}

function createSpec(run: BuildahRun) {
  return {
    id: run.id,
    builds: run.ids,
    lowerDirs: [run.rootfs],
    args: ['/bin/sh', '-c', SCRIPT, 'skiff', String(run.images.length), ...flagsOf(run)],
    env: {
      PATH: '/usr/bin:/bin',
      HOME: '/build/home',
      TMPDIR: '/build/tmp',
      XDG_RUNTIME_DIR: '/build/run',
      LANG: 'C.UTF-8',
    },
    cwd: '/build',
    memoryBytes: CONTAINER_BUILD_MEMORY_BYTES,
    cpu: 2,
    pidsMax: PIDS_MAX,
    tmpBytes: TMP_BYTES_MAX,
    isolation: 'compat' as const,
    ...(run.network ? { networkNamespace: run.network.namespace } : {}),
    mounts: [
      { source: run.context, target: '/context' },
      { source: run.folder, target: '/build', writable: true, exec: true },
      ...(run.network ? [{ source: run.network.resolvConf, target: '/etc/resolv.conf' }] : []),
    ],
  };
}

async function giveAway(folder: string, uid: number): Promise<void> {
  await chown(folder, uid, uid);
  for (const entry of await readdir(folder, { recursive: true })) await chown(join(folder, entry), uid, uid);
}

/** The author's names in place of ours. */
function hidePaths(line: string, images: readonly string[]): string {
  const named = images.reduceRight((text, name, index) => text.replaceAll(stagedName(index), name), line);
  return named.replaceAll('/build/', '');
}

function describeEnd(lines: readonly string[], code: number | undefined): string {
  const step = lines.findLast((line) => /^(?:\[\d+\/\d+\] )?STEP /.test(line));
  const said = lines.slice(-8).filter((line) => line !== step);
  return [`the build of the image failed (code ${code ?? 'unknown'})`, step, ...said]
    .filter((line) => line !== undefined)
    .join('\n');
}
