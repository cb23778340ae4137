/** `skiff event`: sends events that asynchronous invocations wait for. */
import type { Command } from '@commander-js/extra-typings';
import { openClient } from '../../connection/server.ts';
import { usage } from '../../failure.ts';
import { plural } from '../../output/quantities.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff event send approved '{"order":17}'    for ctx.waitForEvent('approved', { match: { order: 17 } })
  $ skiff event send deploy-window-open         without data

Prints the ids of the invocations that go on with it; those that begin to wait later do not get it.
`;

export function define(command: Command, session: Session): void {
  command.addHelpText('after', EXAMPLES);
  command
    .command('send')
    .alias('publish')
    .summary('send an event to the invocations that wait for it')
    .argument('<name>', 'what they wait for')
    .argument('[json]', 'its data')
    .option('--json', 'print the receipt')
    .addHelpText('after', EXAMPLES)
    .action(async (name, json, options) => {
      const { output, signal } = session;
      const receipt = await openClient(session).sendEvent(name, parseData(json), { signal });
      if (options.json) return output.json(receipt);
      for (const id of receipt.invocations) output.out.line(id);
      output.err.line(
        receipt.delivered === 0
          ? `nobody waits for "${name}" with such data`
          : `given to ${plural(receipt.delivered, 'invocation')}`,
      );
    });
}

function parseData(json: string | undefined): unknown {
  if (json === undefined) return undefined;
  try {
    return JSON.parse(json);
  } catch (error) {
    throw usage(`the data is not JSON: ${(error as Error).message}`, 'quote it: \'{"order":17}\'');
  }
}
