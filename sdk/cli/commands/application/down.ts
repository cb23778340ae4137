/** `skiff down`: removes what `skiff up` made. */
import type { Command } from '@commander-js/extra-typings';
import { removeFunctions } from '../../application/apply.ts';
import { addProjectOptions, readProject } from '../../application/options.ts';
import { membersOf } from '../../application/plan.ts';
import { openClient } from '../../connection/server.ts';
import { ExitCode } from '../../failure.ts';
import { createBoard } from '../../output/board.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff down                remove the application of this folder
  $ skiff down -p shop        by its name; no file is needed
  $ skiff down --dry-run      only show what would be removed

Secrets stay: other functions may use them (skiff secret rm).
`;

export function define(command: Command, session: Session): void {
  addProjectOptions(command)
    .option('--dry-run', 'show what would be removed and change nothing')
    .option('--json', 'print { name, removed }')
    .addHelpText('after', EXAMPLES)
    .action(async (options) => {
      const project = options.projectName ?? readProject(session, { ...options, profile: ['*'] }).name;
      const client = openClient(session);
      const names = membersOf(await client.list({ signal: session.signal }), project).map(({ name }) => name);
      const { output } = session;
      if (names.length === 0) output.err.line(`the application ${project} has nothing on the server`);
      if (options.dryRun) {
        if (options.json) output.json({ name: project, removed: names });
        else for (const name of names) output.out.line(output.out.style('red', `- ${name}`));
        return;
      }
      const board = createBoard(output.err, names);
      const isWhole = await removeFunctions(client, names, board, session.signal);
      board.stop();
      if (options.json) output.json({ name: project, removed: names });
      if (!isWhole) session.exitCode = ExitCode.notConverged;
    });
}
