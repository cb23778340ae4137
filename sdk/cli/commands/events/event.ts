/** `skiff event`: sends events that asynchronous invocations wait for, and shows how the queue is. */
import type { Command } from '@commander-js/extra-typings';
import type { EventStats } from '../../../client/index.ts';
import { openClient } from '../../connection/server.ts';
import { ExitCode, usage } from '../../failure.ts';
import { plural } from '../../output/quantities.ts';
import { formatFields } from '../../output/table.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff event send approved '{"order":17}'    for ctx.waitForEvent('approved', { match: { order: 17 } })
  $ skiff event send deploy-window-open         without data
  $ skiff event stats                           what waits, and what an accepted event survives

send prints the ids of the invocations that go on with it; those that were accepted before it and begin to wait within an hour get it, too.
`;

export function define(command: Command, session: Session): void {
  command.addHelpText('after', EXAMPLES);
  defineStats(command, session);
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

const SURVIVES: Readonly<Record<EventStats['durability'], string>> = {
  single: 'single: an accepted event is on the disk of one server',
  replicated: 'replicated: an accepted event is on that disk, and a replica has it',
  fast: 'fast: up to one second of accepted events can be lost with the power',
};

function defineStats(command: Command, session: Session): void {
  command
    .command('stats')
    .alias('status')
    .summary('what waits, what has ended, and what an accepted event survives')
    .option('--json', 'print the figures')
    .addHelpText('after', EXAMPLES)
    .action(async (options) => {
      const { output, signal } = session;
      const stats = await openClient(session).eventStats({ signal });
      if (options.json) return output.json(stats);
      const { counters, problem } = stats;
      const fields = formatFields(output.out, [
        ['durability', SURVIVES[stats.durability]],
        ['accepting', problem === undefined ? 'yes' : output.out.style('red', `no: ${problem}`)],
        [
          'unfinished',
          `${stats.unfinished}, of which ${stats.queued} in the queue and ${stats.held} held by workers`,
        ],
        ['dead', `${stats.dead} dead or expired; see: skiff dlq ls`],
        ...['accepted', 'succeeded', 'dead', 'expired', 'cancelled'].map((name): [string, string] => [
          `all ${name}`,
          String(counters[name] ?? 0),
        ]),
        ['attempts lost', String(counters['outcome:lost'] ?? 0)],
      ]);
      for (const line of fields) output.out.line(line);
      if (problem !== undefined) session.exitCode = ExitCode.notConverged;
    });
}
