/** `skiff dlq`: invocations that are dead or expired, and what to do with them. */
import type { Command } from '@commander-js/extra-typings';
import type { DeadSelection, InvocationRecord } from '../../../client/index.ts';
import { openClient } from '../../connection/server.ts';
import { usage } from '../../failure.ts';
import { parseCount } from '../../options/parse.ts';
import { formatAgo, plural } from '../../output/quantities.ts';
import { type Column, printTable } from '../../output/table.ts';
import type { Session } from '../../session.ts';
import { printInvocation } from './invocation.ts';

const EXAMPLES = `
Examples:
  $ skiff dlq ls resize            what of "resize" could not be done
  $ skiff dlq show inv-01k…        its attempts, with their errors
  $ skiff dlq replay resize        after the repair: all of them again, under the same ids
  $ skiff dlq replay inv-01k…      only this one
  $ skiff dlq purge --all          remove everything, for good
`;

export function define(command: Command, session: Session): void {
  command.addHelpText('after', EXAMPLES);
  defineList(command, session);
  defineShow(command, session);
  defineReplay(command, session);
  definePurge(command, session);
}

function defineList(command: Command, session: Session): void {
  command
    .command('ls')
    .alias('list')
    .summary('list dead and expired invocations, newest first')
    .argument('[function]', 'only of this function')
    .option('-n, --limit <count>', 'how many at most', parseCount, 100)
    .option('-q, --quiet', 'print ids only')
    .option('--json', 'print the records')
    .addHelpText('after', EXAMPLES)
    .action(async (name, options) => {
      const { out, err } = session.output;
      const { invocations, total } = await openClient(session).dead({
        function: name,
        limit: options.limit,
        signal: session.signal,
      });
      if (options.json) return session.output.json(invocations);
      if (options.quiet) return invocations.forEach(({ id }) => out.line(id));
      if (invocations.length > 0) printTable(out, createColumns(Date.now()), invocations);
      else err.line('nothing is dead or expired');
      if (invocations.length < total && name === undefined) {
        err.line(`${total - invocations.length} more; see them with --limit`);
      }
    });
}

function createColumns(nowMs: number): Column<InvocationRecord>[] {
  return [
    { title: 'ID', value: ({ id }) => id },
    { title: 'FUNCTION', value: ({ functionName }) => functionName },
    { title: 'STATE', value: ({ state, reason }) => `${state} (${reason})` },
    { title: 'TRIES', isSpare: true, align: 'right', value: ({ attempts }) => String(attempts.length) },
    { title: 'ENDED', isSpare: true, value: ({ endedMs }) => formatAgo(endedMs ?? nowMs, nowMs) },
    { title: 'LAST', isFlexible: true, value: describeLast },
  ];
}

function describeLast({ attempts }: InvocationRecord): string {
  const last = attempts.at(-1);
  if (!last) return 'never run';
  return last.message ?? `${last.outcome}${last.status === undefined ? '' : ` ${last.status}`}`;
}

function defineShow(command: Command, session: Session): void {
  command
    .command('show')
    .alias('inspect')
    .summary('show one with its attempts')
    .argument('<id>')
    .option('--json', 'print the record')
    .action(async (id, options) => {
      const record = await openClient(session).invocation(id, { signal: session.signal });
      if (options.json) return session.output.json(record);
      printInvocation(session.output.out, record);
    });
}

function defineReplay(command: Command, session: Session): void {
  command
    .command('replay')
    .aliases(['redrive', 'retry'])
    .summary('run them again, under the same ids')
    .argument('[what...]', 'ids, or the name of a function')
    .option('--all', 'everything')
    .addHelpText('after', EXAMPLES)
    .action(async (what, options) => {
      const selection = parseSelection(what, options.all === true);
      const ids = await openClient(session).replay(selection, { signal: session.signal });
      for (const id of ids) session.output.out.line(id);
      session.output.err.line(`${plural(ids.length, 'invocation')} will run again`);
    });
}

function definePurge(command: Command, session: Session): void {
  command
    .command('purge')
    .aliases(['rm', 'clear'])
    .summary('remove them for good')
    .argument('[what...]', 'ids, or the name of a function')
    .option('--all', 'everything')
    .addHelpText('after', EXAMPLES)
    .action(async (what, options) => {
      const selection = parseSelection(what, options.all === true);
      const purged = await openClient(session).purge(selection, { signal: session.signal });
      session.output.err.line(`${plural(purged, 'invocation')} removed`);
    });
}

function parseSelection(what: readonly string[], isAll: boolean): DeadSelection {
  if (isAll && what.length === 0) return { all: true };
  const [first] = what;
  if (isAll || first === undefined) throw usage('say which', 'give ids, the name of a function, or --all');
  if (what.every((word) => word.startsWith('inv-'))) return { ids: what };
  if (what.length === 1) return { function: first };
  throw usage('that is more than one function', 'give ids, or the name of one function');
}
