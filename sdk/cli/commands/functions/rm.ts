/** `skiff rm`. */
import type { Command } from '@commander-js/extra-typings';
import { openClient } from '../../connection/server.ts';
import { ClientError } from '../../../client/index.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff rm hello
  $ skiff rm hello resize        several
  $ skiff rm -f maybe-there      no error when it is not there
`;

export function define(command: Command, session: Session): void {
  command
    .argument('<functions...>', 'names of functions')
    .option('-f, --force', 'it is fine if one is not there')
    .option('--json', 'print { removed: [name, …] }')
    .addHelpText('after', EXAMPLES)
    .action(async (names, options) => {
      const client = openClient(session);
      const removed: string[] = [];
      for (const name of names) {
        try {
          await client.remove(name, { signal: session.signal });
          removed.push(name);
          if (!options.json) session.output.out.line(name);
        } catch (error) {
          const isGone = error instanceof ClientError && error.code === 'FUNCTION_NOT_FOUND';
          if (!(isGone && options.force)) throw error;
        }
      }
      if (options.json) session.output.json({ removed });
    });
}
