/**
 * The OCI runtimes' command lines and differences: the only file that knows them. crun leaves cgroups to us
 * (`--cgroup-manager=disabled`). runc has no such switch: it makes a group of its own below ours and removes it at
 * the end, and it insists on a mapping for uid 0, which then is one more unprivileged uid of the host. runsc (gVisor) is
 * a kernel of its own in a process of ours: that process is the sandbox, and stays the runtime.
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
  /** The process whose pid it reports goes on being the runtime, and is no program of the sandbox. */
  readonly staysRuntime: boolean;
  /** It looks for what is mounted as the sandbox's user, who may not walk through our folders. */
  readonly mountsAsNobody: boolean;
  /** It makes the root read-only itself; otherwise the root that it is given must be. */
  readonly remountsRoot: boolean;
  /** Before the command. */
  readonly options: readonly string[];
}

export function runtimeTraits(program: string): RuntimeTraits {
  const name = basename(program);
  const isCrun = name.startsWith('crun');
  const isGvisor = name.startsWith('runsc');
  return {
    refusesHybrid: isCrun,
    nestsCgroup: !isCrun && !isGvisor,
    needsRootMapping: !isCrun,
    staysRuntime: isGvisor,
    mountsAsNobody: isGvisor,
    remountsRoot: !isGvisor,
    options: isCrun ? ['--cgroup-manager=disabled'] : isGvisor ? GVISOR_OPTIONS : [],
  };
}

/**
 * Its processes stay in the group that we put them in; the channel is a socket of the host, which it may connect to. A
 * program of this name in SKIFF_RUNTIME_CLASSES can be a script that adds others, such as --platform=kvm.
 */
const GVISOR_OPTIONS = ['--ignore-cgroups', '--host-uds=open', '--platform=ptrace'];

/** What `linux.cgroupsPath` of a runtime that nests must be. */
export function nestedCgroupsPath(parent: string, id: string): string {
  return `/${parent}/${id}/runtime`;
}

/** `run` in the foreground: the runtime's exit is the sandbox's exit and carries its code. */
export function runCommand(
  paths: RuntimePaths,
  id: string,
  files: RunFiles,
  { hasNetwork }: { readonly hasNetwork: boolean },
): string[] {
  const common = ['--root', paths.root, '--log', files.logFile, '--log-format', 'json'];
  const { options, staysRuntime } = runtimeTraits(paths.program);
  const network = staysRuntime && !hasNetwork ? ['--network=none'] : [];
  return [
    paths.program,
    ...common,
    ...options,
    ...network,
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
