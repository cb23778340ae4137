/** `skiff version`. */
import type { Command } from '@commander-js/extra-typings';
import { readVersion } from '../../installation.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff version
  $ skiff version --json
`;

export function define(command: Command, session: Session): void {
  command
    .option('--json', 'print { skiff, node }')
    .addHelpText('after', EXAMPLES)
    .action((options) => {
      const version = readVersion();
      if (options.json) return session.output.json({ skiff: version, node: process.versions.node });
      session.output.out.line(`skiff ${version} (node ${process.versions.node})`);
    });
}
