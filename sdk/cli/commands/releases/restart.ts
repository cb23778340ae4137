/** `skiff restart`: new sandboxes for the same deployment. */
import type { Command } from '@commander-js/extra-typings';
import { openClient } from '../../connection/server.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff restart hello            a connection it holds is stale, a cache in its memory is wrong
  $ skiff restart hello resize

Nothing is cut off: a sandbox ends when its calls have ended. The calls that come then start new ones.
`;

export function define(command: Command, session: Session): void {
  command
    .argument('<function...>', 'names of functions')
    .addHelpText('after', EXAMPLES)
    .action(async (names) => {
      const client = openClient(session);
      for (const name of names) {
        await client.restart(name, { signal: session.signal });
        session.output.out.line(name);
      }
    });
}
