/** `skiff server`: becomes the supervisor. */
import type { Command } from '@commander-js/extra-typings';
import { becomeHostProgram } from '../../installation.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff server                        everything on this host, port 8080
  $ SKIFF_GATEWAY_PORT=9000 SKIFF_DATA_DIR=/srv/skiff skiff server
  $ skiff server --role builder         one role; repeat it for several
  $ skiff server --print-config         the settings it would run with
  $ skiff server cells --to redis+cluster://a:6379,b:6379,c:6379 --cells 16
                                        while it is stopped: its store, moved to a Redis Cluster
  $ skiff doctor                        what it needs, and whether it is there

Options are handed to the server as they are. It runs until Ctrl-C or SIGTERM.
`;

export function define(command: Command, session: Session): void {
  command
    .argument('[options...]', 'options of the server')
    .allowUnknownOption()
    .addHelpText('after', EXAMPLES)
    .action((options) => becomeHostProgram(session, ['server', ...options]));
}
