/** `skiff promote`: shifts traffic between two deployments. */
import type { Command } from '@commander-js/extra-typings';
import { openClient } from '../../connection/server.ts';
import { parsePercent } from '../../options/parse.ts';
import type { Session } from '../../session.ts';
import { describeTraffic } from '../functions/ls.ts';

const EXAMPLES = `
Examples:
  $ skiff promote hello                         the newest deployment gets all traffic
  $ skiff promote hello --percent 10            the newest gets a tenth, the live one keeps the rest
  $ skiff promote hello dep-01k… --percent 50   this one gets half
  $ skiff rollback hello                        back to the older of the two
`;

export function define(command: Command, session: Session): void {
  command
    .argument('<function>', 'name of the function')
    .argument('[deployment]', 'id to promote (default: the newest)')
    .option('-p, --percent <share>', 'share of the traffic, 1 to 100', parsePercent)
    .option('--json', 'print the alias')
    .addHelpText('after', EXAMPLES)
    .action(async (name, deployment, options) => {
      const alias = await openClient(session).promote(name, {
        to: deployment,
        percent: options.percent,
        signal: session.signal,
      });
      if (options.json) return session.output.json(alias);
      session.output.out.line(`${name} ${alias.name}: ${describeTraffic(alias.targets)}`);
    });
}
