/**
 * The OCI runtimes' command lines and differences: the only file that knows them. crun leaves cgroups to us
 * (`--cgroup-manager=disabled`). runc has no such switch: it makes a group of its own below ours and removes it at
 * the end, and it insists on a mapping for uid 0, which then is one more unprivileged uid of the host.
 */
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

export interface RuntimePaths {
  /** crun, runc, or a path to one of them. */
  readonly program: string;
  /** Where the runtime keeps its own state. */
  readonly root: string;
}

export interface RunFiles {
  readonly bundle: string;
  readonly pidFile: string;
  readonly logFile: string;
}

export function runFiles(bundle: string): RunFiles {
  return { bundle, pidFile: join(bundle, 'pid'), logFile: join(bundle, 'runtime.log') };
}

export interface RuntimeTraits {
  /** Runs on hosts that mount both cgroup versions only when the second one is hidden. */
  readonly refusesHybrid: boolean;
  /** Makes its own group below the sandbox's. */
  readonly nestsCgroup: boolean;
  readonly needsRootMapping: boolean;
}

export function runtimeTraits(program: string): RuntimeTraits {
  const isCrun = basename(program).startsWith('crun');
  return { refusesHybrid: isCrun, nestsCgroup: !isCrun, needsRootMapping: !isCrun };
}

/** What `linux.cgroupsPath` of a runtime that nests must be. */
export function nestedCgroupsPath(parent: string, id: string): string {
  return `/${parent}/${id}/runtime`;
}

/** `run` in the foreground: the runtime's exit is the sandbox's exit and carries its code. */
export function runCommand(paths: RuntimePaths, id: string, files: RunFiles): string[] {
  const common = ['--root', paths.root, '--log', files.logFile, '--log-format', 'json'];
  const manager = runtimeTraits(paths.program).nestsCgroup ? [] : ['--cgroup-manager=disabled'];
  return [
    paths.program,
    ...common,
    ...manager,
    'run',
    '--bundle',
    files.bundle,
    '--pid-file',
    files.pidFile,
    id,
  ];
}

const FAILURE_LEVELS = new Set(['error', 'fatal']);

/** The runtime's own last words, or undefined when it had no complaint. */
export function tryReadFailure(files: RunFiles): string | undefined {
  try {
    const lines = readFileSync(files.logFile, 'utf8').trim().split('\n').filter(Boolean);
    const entries = lines.map((line) => JSON.parse(line) as { msg: string; level: string });
    const messages = entries.filter(({ level }) => FAILURE_LEVELS.has(level)).map(({ msg }) => msg);
    return messages.length === 0 ? undefined : messages.join('; ');
  } catch {
    return undefined;
  }
}
