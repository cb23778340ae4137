/** Options that every command about an application has, and the application they lead to. */
import type { Command } from '@commander-js/extra-typings';
import type { Project } from '../../compose/model.ts';
import { loadProject } from '../../compose/project.ts';
import { collect } from '../options/parse.ts';
import type { Session } from '../session.ts';

export type ProjectOptions = {
  readonly file?: string[];
  readonly projectName?: string;
  readonly namespace?: string;
  readonly profile?: string[];
  readonly envFile?: string[];
};

export function addProjectOptions(command: Command): Command<[], ProjectOptions> {
  return command
    .option(
      '-f, --file <file>',
      'compose file (default: compose.yaml here or above); several are merged',
      collect,
    )
    .option('-p, --project-name <name>', 'name of the application (default: that of the file or folder)')
    .option('-n, --namespace <namespace>', 'whose members they are: a team’s applications are its own')
    .option('--profile <name>', 'turn on services of this profile', collect)
    .option('--env-file <file>', 'variables for the compose file, instead of .env', collect);
}

/** @throws SkiffError INVALID_CONFIG */
export function readProject(
  session: Session,
  options: ProjectOptions,
  services: readonly string[] = [],
  isInterpolated = true,
): Project {
  return loadProject({
    cwd: session.cwd,
    env: session.env,
    files: options.file ?? [],
    projectName: options.projectName,
    namespace: options.namespace,
    ...(options.profile && { profiles: options.profile }),
    services,
    envFiles: options.envFile ?? [],
    isInterpolated,
  });
}

export function printNotes(session: Session, project: Project): void {
  const { err } = session.output;
  for (const note of project.notes) err.line(`${err.style('yellow', 'note:')} ${note}`);
}
