/** `skiff down`: removes what `skiff up` made. */
import type { Command } from '@commander-js/extra-typings';
import { tryFindFiles } from '../../../compose/load/file-set.ts';
import { ownVolumes } from '../../../compose/volumes.ts';
import { removeFunctions } from '../../application/apply.ts';
import { addProjectOptions, type ProjectOptions, readProject } from '../../application/options.ts';
import { membersOf } from '../../application/plan.ts';
import { type CliClient, openClient } from '../../connection/server.ts';
import { ExitCode } from '../../failure.ts';
import { inNamespace } from '../../options/namespace.ts';
import { createBoard } from '../../output/board.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff down                remove the application of this folder
  $ skiff down -v             and its volumes, with all that is in them
  $ skiff down -p shop        by its name; no file is needed
  $ skiff down --dry-run      only show what would be removed

Without -v volumes stay, and the next skiff up finds them (skiff volume ls). Secrets always stay: other functions may
use them (skiff secret rm).
`;

export function define(command: Command, session: Session): void {
  addProjectOptions(command)
    .option('-v, --volumes', 'remove its volumes, too')
    .option('--dry-run', 'show what would be removed and change nothing')
    .option('--json', 'print { name, removed, volumes }')
    .addHelpText('after', EXAMPLES)
    .action(async (options) => {
      const client = openClient(session);
      const { output, signal } = session;
      const { name, namespace, volumes: declared } = readTarget(session, options);
      const members = membersOf(await client.list({ signal }), {
        name,
        ...(namespace !== undefined && { namespace }),
      });
      const names = members.map((member) => member.name);
      const volumes = await findVolumes(client, { name, namespace, declared }, session);
      const removed = options.volumes ? volumes : [];
      if (names.length === 0 && removed.length === 0)
        output.err.line(`the application ${name} has nothing on the server`);
      if (options.dryRun) {
        if (options.json) output.json({ name, removed: names, volumes: removed });
        else
          for (const one of [...names, ...removed.map((volume) => `volume ${volume}`)])
            output.out.line(output.out.style('red', `- ${one}`));
        return;
      }
      const board = createBoard(output.err, names);
      let isWhole = await removeFunctions(client, names, board, signal);
      board.stop();
      if (isWhole) isWhole = await removeVolumes(client, removed, session);
      const kept = volumes.filter((volume) => !removed.includes(volume));
      if (kept.length > 0)
        output.err.line(
          `${output.err.style('dim', 'kept:')} ${kept.join(', ')} (skiff down -v removes volumes)`,
        );
      if (options.json) output.json({ name, removed: names, volumes: removed });
      if (!isWhole) session.exitCode = ExitCode.notConverged;
    });
}

interface Target {
  readonly name: string;
  readonly namespace: string | undefined;
  /** Volumes of the file, without the namespace; none when there is no file. */
  readonly declared: readonly string[];
}

function readTarget(
  session: Session,
  options: ProjectOptions,
): { name: string; namespace: string | undefined; volumes: string[] } {
  const { projectName, namespace, file } = options;
  if (projectName !== undefined && file === undefined && tryFindFiles(session.cwd) === undefined)
    return { name: projectName, namespace, volumes: [] };
  const project = readProject(session, { ...options, profile: ['*'] });
  return { name: project.name, namespace, volumes: ownVolumes(project) };
}

/** Of the file, and what else is called after the application: the file may have changed. */
async function findVolumes(client: CliClient, target: Target, { signal }: Session): Promise<string[]> {
  const { name, namespace, declared } = target;
  const whole = declared.map((one) => inNamespace(one, namespace));
  const prefix = inNamespace(`${name}-`, namespace);
  const known = await client.volumes.list({ signal });
  return known
    .filter((volume) => volume.removedMs === undefined)
    .map((volume) => volume.name)
    .filter((one) => whole.includes(one) || (declared.length === 0 && one.startsWith(prefix)));
}

async function removeVolumes(
  client: CliClient,
  names: readonly string[],
  session: Session,
): Promise<boolean> {
  const { err } = session.output;
  let isWhole = true;
  for (const name of names) {
    try {
      await client.volumes.remove(name, { signal: session.signal });
      err.line(`${err.style('green', '✓')} volume ${name}  removed`);
    } catch (error) {
      isWhole = false;
      err.line(`${err.style('red', '✗')} volume ${name}  ${(error as Error).message}`);
    }
  }
  return isWhole;
}
