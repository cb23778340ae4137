/** `skiff node`: the hosts that run functions. */
import { type Command, Option } from '@commander-js/extra-typings';
import type { NodeRecord, NodeTask, NodeUpdate } from '../../../client/index.ts';
import { openClient } from '../../connection/server.ts';
import { usage } from '../../failure.ts';
import { collect, parseAssignment, parseDuration } from '../../options/parse.ts';
import { formatAgo, formatBytes } from '../../output/quantities.ts';
import { type Column, formatFields, printTable } from '../../output/table.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff node ls
  $ skiff node inspect web-1
  $ skiff node ps web-1                                     sandboxes on it
  $ skiff node update --availability drain web-1            it gets no work; what runs there ends in its own time
  $ skiff node update --label-add zone=a web-1              for constraints like node.labels.zone==a
  $ skiff node rm web-1                                     it belongs to the swarm no more, at once
  $ skiff node ls --json | jq -r '.[].hostname'
`;

export function define(command: Command, session: Session): void {
  command.addHelpText('after', EXAMPLES);
  defineReads(command, session);
  defineUpdate(command, session);
  command
    .command('rm')
    .aliases(['remove', 'delete'])
    .summary('remove nodes from the swarm; what they were given is revoked at once')
    .argument('<node...>', 'ids or host names')
    .option('-f, --force', 'also those that are up')
    .action(async (names, options) => {
      const client = openClient(session);
      for (const name of names) {
        await client.node.remove(name, { force: options.force, signal: session.signal });
        session.output.out.line(name);
      }
    });
}

function defineReads(command: Command, session: Session): void {
  command
    .command('ls')
    .aliases(['list'])
    .summary('list nodes')
    .option('-q, --quiet', 'print ids alone')
    .option('--json', 'print the records')
    .action(async (options) => {
      const nodes = await openClient(session).nodes({ signal: session.signal });
      if (options.json) return session.output.json(nodes);
      if (options.quiet) return nodes.forEach(({ id }) => session.output.out.line(id));
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
  command
    .command('ps')
    .aliases(['tasks'])
    .summary('list the sandboxes on a node')
    .argument('<node>', 'id or host name')
    .option('--json', 'print the records')
    .action(async (name, options) => {
      const tasks = await openClient(session).node.tasks(name, { signal: session.signal });
      if (options.json) return session.output.json(tasks);
      printTable(session.output.out, TASK_COLUMNS, tasks);
    });
}

function defineUpdate(command: Command, session: Session): void {
  command
    .command('update')
    .summary('change availability and labels of a node')
    .argument('<node>', 'id or host name')
    .addOption(
      new Option(
        '--availability <value>',
        'active: takes work, pause: keeps what it has, drain: gives it away',
      ).choices(['active', 'pause', 'drain'] as const),
    )
    .option(
      '--grace <duration>',
      'while draining, how long running calls may go on (default: 30s)',
      parseDuration,
    )
    .option('--label-add <name=value>', 'add or change a label; may be repeated', collect)
    .option('--label-rm <name>', 'remove a label; may be repeated', collect)
    .option('--json', 'print the record')
    .action(async (name, options) => {
      const update: NodeUpdate = {
        ...(options.availability === undefined ? {} : { availability: options.availability }),
        ...(options.grace === undefined ? {} : { drainGraceMs: options.grace }),
        ...(options.labelAdd === undefined
          ? {}
          : { labelsAdd: Object.fromEntries(options.labelAdd.map(parseAssignment)) }),
        ...(options.labelRm === undefined ? {} : { labelsRemove: options.labelRm }),
      };
      if (Object.keys(update).length === 0)
        throw usage('nothing to change', 'for example: skiff node update --availability drain web-1');
      const node = await openClient(session).node.update(name, update, { signal: session.signal });
      if (options.json) session.output.json(node);
      else session.output.out.line(node.id);
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

const isDown = (node: NodeRecord): boolean => node.status === 'down';

function createColumns(nowMs: number): Column<NodeRecord>[] {
  const ifUp = (value: (row: NodeRecord) => string) => (row: NodeRecord) => (isDown(row) ? '' : value(row));
  return [
    { title: 'ID', value: (row) => row.id },
    { title: 'HOST', value: (row) => row.hostname, isFlexible: true },
    { title: 'STATUS', value: (row) => row.status ?? 'ready' },
    { title: 'AVAILABILITY', value: (row) => row.availability },
    { title: 'ROLE', isSpare: true, value: (row) => row.role ?? '' },
    { title: 'SANDBOXES', value: ifUp((row) => String(row.used.sandboxes)), align: 'right' },
    { title: 'BUSY', isSpare: true, value: ifUp((row) => String(row.used.busySlots)), align: 'right' },
    { title: 'MEMORY', value: ifUp(formatMemory), align: 'right' },
    { title: 'CORES', isSpare: true, value: ifUp((row) => String(row.capacity.cpus)), align: 'right' },
    { title: 'SEEN', isSpare: true, value: ifUp((row) => formatAgo(row.heartbeatMs, nowMs)) },
    { title: 'VERSION', isSpare: true, value: (row) => row.version },
  ];
}

const TASK_COLUMNS: Column<NodeTask>[] = [
  { title: 'SANDBOX', value: (row) => row.sandbox },
  { title: 'FUNCTION', value: (row) => (row.service === undefined ? row.functionName : '') },
  { title: 'SERVICE', value: (row) => row.service ?? '' },
  { title: 'DEPLOYMENT', isSpare: true, value: (row) => row.deployment },
  { title: 'STATE', value: (row) => row.state },
];

function formatMemory({ used, capacity }: NodeRecord): string {
  return `${formatBytes(used.memoryBytes)} of ${formatBytes(capacity.memoryBytes)}`;
}

/** `passing, checked 3s ago in 140 ms`. */
function describeHealth({ health }: NodeRecord, nowMs: number): string | undefined {
  if (!health) return undefined;
  const { state, sinceMs, checkedMs, ms, message } = health;
  const checked = checkedMs === undefined ? '' : `, checked ${formatAgo(checkedMs, nowMs)}`;
  if (state === 'passing') return `passing${checked}${ms === undefined ? '' : ` in ${ms} ms`}`;
  return `${state} since ${formatAgo(sinceMs, nowMs)}${checked}${message === undefined ? '' : `: ${message}`}`;
}

/** `keeps 12 (45 MB) layers for others, gave 3 (12 MB), got 9 (40 MB), 3 from the registry`. */
function describePeers({ peers }: NodeRecord): string | undefined {
  if (!peers) return undefined;
  const { kept, given, got, fromRegistry, failed } = peers;
  const text = ({ count, bytes }: typeof kept): string => `${count} (${formatBytes(bytes)})`;
  const parts = [`keeps ${text(kept)} layers for others`, `gave ${text(given)}`, `got ${text(got)}`];
  return [...parts, `${fromRegistry} from the registry`, ...(failed > 0 ? [`${failed} in vain`] : [])].join(
    ', ',
  );
}

function printNode({ output: { out } }: Session, node: NodeRecord): void {
  const nowMs = Date.now();
  const pairs = Object.entries(node.labels).map((pair) => pair.join('='));
  const common: [string, string | undefined][] = [
    ['id', out.style('bold', node.id)],
    ['host', node.hostname],
    ['status', node.status],
    ['availability', node.availability],
    ['role', node.role],
    ['labels', pairs.join(', ') || undefined],
    ['version', node.version],
    ['address', node.address],
  ];
  const live: [string, string | undefined][] = [
    ['started', formatAgo(node.startedMs, nowMs)],
    ['health', describeHealth(node, nowMs)],
    ['seen', formatAgo(node.heartbeatMs, nowMs)],
    ['platform', node.platform && `${node.platform.os} ${node.platform.arch}`],
    ['memory', formatMemory(node)],
    ['cores', String(node.capacity.cpus)],
    ['sandboxes', String(node.used.sandboxes)],
    ['busy slots', String(node.used.busySlots)],
    ['stems', String(node.used.stems)],
    ['images', node.images && `${node.images.count} (${formatBytes(node.images.bytes)})`],
    ['peers', describePeers(node)],
    ['link', node.link],
  ];
  for (const line of formatFields(out, isDown(node) ? common : [...common, ...live])) out.line(line);
}
