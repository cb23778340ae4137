/**
 * The OCI runtime's command line: the only file that knows it. crun leaves cgroups to us
 * (`--cgroup-manager=disabled`); runc has no such switch and joins the empty path it is given by the bundle.
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

export function isCrun(program: string): boolean {
  return basename(program).startsWith('crun');
}

/** `run` in the foreground: the runtime's exit is the sandbox's exit and carries its code. */
export function runCommand(paths: RuntimePaths, id: string, files: RunFiles): string[] {
  const common = ['--root', paths.root, '--log', files.logFile, '--log-format', 'json'];
  const manager = isCrun(paths.program) ? ['--cgroup-manager=disabled'] : [];
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

/** The runtime's own last words, or undefined when it had no complaint. */
export function tryReadFailure(files: RunFiles): string | undefined {
  try {
    const lines = readFileSync(files.logFile, 'utf8').trim().split('\n').filter(Boolean);
    const messages = lines.map((line) => (JSON.parse(line) as { msg?: string; level?: string }).msg ?? line);
    return messages.length === 0 ? undefined : messages.join('; ');
  } catch {
    return undefined;
  }
}
