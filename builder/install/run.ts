/** One run of a package tool in a sandbox: what is mounted, how it is limited, and what its end means. */
import { chmod, chown, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Sandbox, SandboxExit, SandboxHost } from '../../infra/sandbox/contract.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { createId } from '../../sdk/protocol/ids.ts';
import {
  DEPENDENCIES_BYTES_MAX,
  INSTALL_MEMORY_BYTES,
  INSTALL_MS_MAX,
  TMP_BYTES_MAX,
} from '../../sdk/protocol/limits.ts';
import { enforceLimits } from './run-limits.ts';
import { createTooLargeError } from './settle.ts';
import type { InstallPlan, PackageTool, ToolCommand } from './tool.ts';

export interface ToolRun {
  readonly host: SandboxHost;
  readonly tool: PackageTool;
  readonly command: ToolCommand;
  readonly plan: InstallPlan;
  /** Root file system of the command's runtime, topmost folder first. */
  readonly lowerDirs: readonly string[];
  /** Folder of this run; `tree/` in it is the result. */
  readonly folder: string;
  /** Folder that holds the mirror's socket. */
  readonly channel: string;
  readonly signal: AbortSignal;
  readonly onLine: (line: string) => void;
}

const LINES_KEPT = 200;
const ERROR_LINES_SHOWN = 12;

/**
 * Resolves when the tool ended well. @throws SkiffError BUILD_FAILED with its own words; the reason of `signal`.
 * The caller removes `folder`.
 */
export async function runTool(run: ToolRun): Promise<void> {
  const uid = run.host.allocateUid();
  await prepare(run, uid);
  const lines: string[] = [];
  const sandbox = await run.host.launch(createSpec(run, uid));
  const limits = enforceLimits(sandbox, {
    folder: run.folder,
    bytesMax: 2 * DEPENDENCIES_BYTES_MAX,
    msMax: INSTALL_MS_MAX,
    signal: run.signal,
    tooLarge: createTooLargeError,
    tooLong: () =>
      new SkiffError(
        'BUILD_FAILED',
        `installing the dependencies took longer than ${INSTALL_MS_MAX / 1_000} s`,
      ),
  });
  const read = collectLines(sandbox, lines, run);
  const exit = await sandbox.exited;
  limits.stop();
  await read;
  run.signal.throwIfAborted();
  const error = limits.failure() ?? describeExit(exit, run, lines);
  if (error) throw error;
}

async function prepare(run: ToolRun, uid: number): Promise<void> {
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

function createSpec(run: ToolRun, uid: number) {
  return {
    id: createId('sbx'),
    uid,
    lowerDirs: run.lowerDirs,
    args: run.command.args,
    env: {
      PATH: '/usr/local/bin:/usr/bin:/bin',
      HOME: '/install/home',
      TMPDIR: '/install/home',
      LANG: 'C.UTF-8',
      NO_COLOR: '1',
      CI: '1',
      ...run.command.env,
    },
    cwd: '/install/tree',
    memoryBytes: INSTALL_MEMORY_BYTES,
    cpu: 2,
    pidsMax: run.plan.mayRunScripts ? 256 : 64,
    tmpBytes: TMP_BYTES_MAX,
    isolation: 'compat' as const,
    compiles: run.plan.mayRunScripts === true,
    mounts: [
      ...run.command.mounts,
      { source: run.channel, target: '/skiff/channel' },
      { source: run.folder, target: '/install', writable: true, exec: run.plan.mayRunScripts === true },
    ],
  };
}

async function collectLines(sandbox: Sandbox, lines: string[], run: ToolRun): Promise<void> {
  const read = async (stream: NodeJS.ReadableStream): Promise<void> => {
    for await (const line of createInterface({ input: stream, crlfDelay: Infinity })) {
      if (line.trim() === '') continue;
      lines.push(line);
      if (lines.length > LINES_KEPT) lines.shift();
      // Errors are told once, in the failure itself.
      if (run.tool.tryReadError(line, run.plan) === undefined) run.onLine(hideMirror(line));
    }
  };
  await Promise.all([read(sandbox.stdout), read(sandbox.stderr)]);
}

function hideMirror(text: string): string {
  return text.replaceAll(/http:\/\/127\.0\.0\.1:\d+\//g, '').replaceAll('/install/tree/', '');
}

function describeExit(exit: SandboxExit, run: ToolRun, lines: readonly string[]): SkiffError | undefined {
  if (exit.outOfMemory)
    return new SkiffError(
      'BUILD_FAILED',
      `installing the dependencies needs more than ${INSTALL_MEMORY_BYTES} bytes of memory`,
    );
  if (exit.code === 0) return undefined;
  const said = lines
    .flatMap((line) => run.tool.tryReadError(line, run.plan) ?? [])
    .filter((line) => line !== '')
    .map(hideMirror)
    .slice(0, ERROR_LINES_SHOWN);
  // A tool that crashes ends with the version of its Node; what happened stands above that.
  const last = lines.findLast((line) => /\bE(?:rror|RR)\b/i.test(line)) ?? lines.at(-1);
  const words = said.length > 0 ? said.join('\n') : (last ?? `it ended with code ${exit.code}`);
  return new SkiffError('BUILD_FAILED', `${run.plan.title} failed: ${words}`);
}
