/** `skiff stats` (and `skiff top`): what functions do now, drawn again every second. */
import type { Command } from '@commander-js/extra-typings';
import type { FunctionStats, StatsSnapshot } from '../../../client/index.ts';
import { openClient } from '../../connection/server.ts';
import type { Channel } from '../../output/channel.ts';
import { formatBytes, plural } from '../../output/quantities.ts';
import { createScreen } from '../../output/screen.ts';
import { type Column, formatTable } from '../../output/table.ts';
import { formatDuration } from '../../output/waterfall.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff stats                      all functions, until Ctrl-C
  $ skiff stats hello resize
  $ skiff stats --no-stream          once
  $ skiff stats --json | jq '.functions[] | [.name, .p99Ms]'    a line of JSON every second

Calls, errors and latencies are of the last ten seconds.
`;

export function define(command: Command, session: Session): void {
  command
    .argument('[function...]', 'only these')
    .option('--no-stream', 'print them once')
    .option('--json', 'print JSON, a line every second')
    .addHelpText('after', EXAMPLES)
    .action(async (names, options) => {
      const client = openClient(session);
      const { out } = session.output;
      const screen = createScreen(out);
      const show = (snapshot: StatsSnapshot): void => {
        const selected = select(snapshot, names);
        if (options.json) out.line(JSON.stringify(selected));
        else screen.draw(describe(out, selected));
      };
      // Asked for by name, so that a misspelt one is an error and not an empty table.
      await Promise.all(names.map((name) => client.get(name, { signal: session.signal })));
      if (!options.stream) return show(await client.stats({ signal: session.signal }));
      for await (const snapshot of client.followStats({ signal: session.signal })) show(snapshot);
    });
}

function select(snapshot: StatsSnapshot, names: readonly string[]): StatsSnapshot {
  if (names.length === 0) return snapshot;
  return { ...snapshot, functions: snapshot.functions.filter(({ name }) => names.includes(name)) };
}

function describe(out: Channel, snapshot: StatsSnapshot): string[] {
  const { callsPerSecond, errorsPerSecond, inFlight, nodes, functions, gateways } = snapshot;
  const used = nodes.reduce((sum, node) => sum + node.used.memoryBytes, 0);
  const capacity = nodes.reduce((sum, node) => sum + node.capacity.memoryBytes, 0);
  const errors = `${formatRate(errorsPerSecond)} errors/s`;
  const head = [
    `${out.style('bold', formatRate(callsPerSecond))} calls/s`,
    errorsPerSecond > 0 ? out.style('red', errors) : errors,
    `${inFlight} in flight`,
    `${plural(gateways, 'gateway')}, ${plural(nodes.length, 'node')}`,
    `${formatBytes(used)} of ${formatBytes(capacity)}`,
  ].join('   ');
  if (functions.length === 0) return [head, '', 'no functions yet'];
  return [head, '', ...formatTable(out, createColumns(out), functions)];
}

function createColumns(out: Channel): Column<FunctionStats>[] {
  const time = (ms: number | undefined): string => (ms === undefined ? '-' : formatDuration(ms));
  return [
    { title: 'NAME', value: (row) => row.name, isFlexible: true },
    { title: 'CALLS/S', value: (row) => formatRate(row.callsPerSecond), align: 'right' },
    { title: 'P50', value: (row) => time(row.p50Ms), align: 'right' },
    { title: 'P99', value: (row) => time(row.p99Ms), align: 'right' },
    { title: 'COLD', isSpare: true, value: (row) => formatShare(row.coldStarts, row.calls), align: 'right' },
    {
      title: 'ERRORS',
      value: (row) => {
        const text = formatShare(row.errors, row.calls);
        return row.errors > 0 ? out.style('red', text) : text;
      },
      align: 'right',
    },
    { title: 'SANDBOXES', isSpare: true, value: (row) => String(row.sandboxes), align: 'right' },
    { title: 'WAITING', isSpare: true, value: (row) => String(row.waiting), align: 'right' },
  ];
}

function formatRate(perSecond: number): string {
  return perSecond >= 100 ? String(Math.round(perSecond)) : String(Number(perSecond.toFixed(1)));
}

function formatShare(part: number, all: number): string {
  if (all === 0) return '-';
  const percent = (part / all) * 100;
  return `${percent > 0 && percent < 10 ? percent.toFixed(1) : Math.round(percent)}%`;
}
