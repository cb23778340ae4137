/** `skiff node`: the hosts that run functions. */
import type { Command } from '@commander-js/extra-typings';
import type { NodeRecord } from '../../../client/index.ts';
import { openClient } from '../../connection/server.ts';
import { usage } from '../../failure.ts';
import { formatAgo, formatBytes } from '../../output/quantities.ts';
import { type Column, formatFields, printTable } from '../../output/table.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff node ls
  $ skiff node inspect web-1
  $ skiff node ls --json | jq -r '.[].hostname'
`;

export function define(command: Command, session: Session): void {
  command.addHelpText('after', EXAMPLES);
  command
    .command('ls')
    .aliases(['list', 'ps'])
    .summary('list nodes')
    .option('--json', 'print the records')
    .action(async (options) => {
      const nodes = await openClient(session).nodes({ signal: session.signal });
      if (options.json) return session.output.json(nodes);
      printTable(session.output.out, createColumns(Date.now()), nodes);
    });
  command
    .command('inspect')
    .aliases(['describe', 'status'])
    .summary('show one node in full')
    .argument('<node>', 'id or host name')
    .option('--json', 'print the record')
    .action(async (name, options) => {
      const node = findNode(await openClient(session).nodes({ signal: session.signal }), name);
      if (options.json) return session.output.json(node);
      printNode(session, node);
    });
}

function findNode(nodes: readonly NodeRecord[], name: string): NodeRecord {
  const byId = nodes.find((node) => node.id === name);
  const byHost = nodes.filter((node) => node.hostname === name);
  const found = byId ?? byHost[0];
  if (byId === undefined && byHost.length > 1)
    throw usage(`${byHost.length} nodes are on host "${name}"`, 'name one by its id: skiff node ls');
  if (found === undefined) throw usage(`there is no node "${name}"`, 'list them: skiff node ls');
  return found;
}

function createColumns(nowMs: number): Column<NodeRecord>[] {
  return [
    { title: 'ID', value: (row) => row.id },
    { title: 'HOST', value: (row) => row.hostname, isFlexible: true },
    { title: 'AVAILABILITY', value: (row) => row.availability },
    { title: 'SANDBOXES', value: (row) => String(row.used.sandboxes), align: 'right' },
    { title: 'BUSY', value: (row) => String(row.used.busySlots), align: 'right' },
    { title: 'MEMORY', value: formatMemory, align: 'right' },
    { title: 'CORES', value: (row) => String(row.capacity.cpus), align: 'right' },
    { title: 'SEEN', value: (row) => formatAgo(row.heartbeatMs, nowMs) },
    { title: 'VERSION', value: (row) => row.version },
  ];
}

function formatMemory({ used, capacity }: NodeRecord): string {
  return `${formatBytes(used.memoryBytes)} of ${formatBytes(capacity.memoryBytes)}`;
}

function printNode({ output: { out } }: Session, node: NodeRecord): void {
  const nowMs = Date.now();
  const fields = formatFields(out, [
    ['id', out.style('bold', node.id)],
    ['host', node.hostname],
    ['availability', node.availability],
    [
      'labels',
      Object.entries(node.labels)
        .map((pair) => pair.join('='))
        .join(', ') || undefined,
    ],
    ['version', node.version],
    ['started', formatAgo(node.startedMs, nowMs)],
    ['seen', formatAgo(node.heartbeatMs, nowMs)],
    ['memory', formatMemory(node)],
    ['cores', String(node.capacity.cpus)],
    ['sandboxes', String(node.used.sandboxes)],
    ['busy slots', String(node.used.busySlots)],
    ['stems', String(node.used.stems)],
    ['link', node.link],
  ]);
  for (const line of fields) out.line(line);
}
