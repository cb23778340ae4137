/** `skiff rollback`: an alias moves back; nothing is built. */
import type { Command } from '@commander-js/extra-typings';
import { openClient } from '../../connection/server.ts';
import type { Session } from '../../session.ts';
import { describeTraffic } from '../functions/ls.ts';

const EXAMPLES = `
Examples:
  $ skiff rollback hello                to the deployment before the live one
  $ skiff rollback hello dep-01k…       to this one; see: skiff versions hello

During a canary it ends the canary. The next invocation is served by the deployment it goes back to.
`;

export function define(command: Command, session: Session): void {
  command
    .argument('<function>', 'name of the function')
    .argument('[deployment]', 'id to go back to')
    .option('--json', 'print the alias')
    .addHelpText('after', EXAMPLES)
    .action(async (name, deployment, options) => {
      const alias = await openClient(session).rollback(name, { to: deployment, signal: session.signal });
      if (options.json) return session.output.json(alias);
      session.output.out.line(`${name} ${alias.name}: ${describeTraffic(alias.targets)}`);
    });
}
