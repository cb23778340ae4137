/** `skiff doctor`: the checks of the host; no server is needed. */
import type { Command } from '@commander-js/extra-typings';
import { becomeHostProgram } from '../../installation.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff doctor                 every check, and what to do where one fails
  $ skiff doctor --security      also what protects this host from functions
  $ skiff doctor --json | jq '.checks[] | select(.status == "missing")'

Exit code: 0 when nothing that must be there is missing, otherwise 1.
`;

export function define(command: Command, session: Session): void {
  command
    .option('--security', 'also check what protects the host')
    .option('--json', 'print { ok, checks }')
    .addHelpText('after', EXAMPLES)
    .action((options) => {
      const flags = [...(options.security ? ['--security'] : []), ...(options.json ? ['--json'] : [])];
      return becomeHostProgram(session, ['doctor', ...flags]);
    });
}
