/** `skiff service`: replicas of a function, kept running across nodes. */
import { type Command, Option } from '@commander-js/extra-typings';
import type { Replica, ServiceState } from '../../../client/index.ts';
import { openClient } from '../../connection/server.ts';
import { ExitCode, usage } from '../../failure.ts';
import { parseCount, parseSince } from '../../options/parse.ts';
import { formatLogLine } from '../../output/function-text.ts';
import { formatAgo } from '../../output/quantities.ts';
import { type Column, formatFields, printTable } from '../../output/table.ts';
import type { Session } from '../../session.ts';
import { waitForService } from './convergence.ts';
import {
  addListOptions,
  addPolicyOptions,
  type ListOptions,
  type PolicyOptions,
  readLists,
  readPolicy,
  withoutUndefined,
} from './service-policy.ts';

const EXAMPLES = `
Examples:
  $ skiff service create --name web --replicas 3 hello     three sandboxes of what is live of hello, over the nodes
  $ skiff service create --name edge --mode global hello   one on every node
  $ skiff service ls
  $ skiff service ps web
  $ skiff service scale web=5
  $ skiff service update --deployment latest web           one after the other; back if one fails
  $ skiff service update --force web                       new replicas of the same, one after the other
  $ skiff service update --constraint-add node.labels.zone==a web
  $ skiff service rollback web
  $ skiff service logs web -f
`;

export function define(command: Command, session: Session): void {
  command.addHelpText('after', EXAMPLES);
  defineCreate(command, session);
  defineReads(command, session);
  defineChanges(command, session);
  defineLogs(command, session);
}

function defineCreate(command: Command, session: Session): void {
  const create = command
    .command('create')
    .summary('keep replicas of a function running')
    .argument('<function>', 'name of the function')
    .requiredOption('--name <name>', 'name of the service; it is called at /f/<name>')
    .option('--deployment <id>', 'this deployment, or "latest" (default: what is live)')
    .option('--replicas <count>', 'how many (default: 1)', parseCount)
    .addOption(
      new Option('--mode <mode>', 'global: one on every node').choices(['replicated', 'global'] as const),
    );
  addPolicyOptions(create as unknown as Command);
  create.action(async (functionName, given) => {
    const options = given as typeof given & PolicyOptions;
    const { name, deployment, replicas, mode } = given;
    const state = await openClient(session).services.create(
      { name, functionName, ...withoutUndefined({ deployment, replicas, mode }), ...readPolicy(options) },
      { signal: session.signal },
    );
    await finish(session, state, options);
  });
}

function defineChanges(command: Command, session: Session): void {
  const update = command
    .command('update')
    .summary('change a service; another deployment is rolled out')
    .argument('<service>')
    .option('--deployment <id>', 'this deployment, or "latest"')
    .option('--replicas <count>', 'how many', parseCount)
    .option('--force', 'replace all replicas, although nothing has changed')
    .option('--rollback', 'go back to before the last update, as `skiff service rollback`');
  addPolicyOptions(update as unknown as Command);
  addListOptions(update as unknown as Command);
  update.action(async (name, given) => {
    const options = given as typeof given & PolicyOptions & ListOptions;
    const { deployment, replicas, force } = given;
    const client = openClient(session);
    const lists = readLists(options);
    const asked = { ...withoutUndefined({ deployment, replicas, force }), ...readPolicy(options) };
    if (given.rollback) {
      if (lists || Object.keys(asked).length > 0) throw usage('--rollback changes nothing else');
      return finish(session, await client.services.rollback(name, { signal: session.signal }), options);
    }
    const spec = lists && (await client.services.get(name, { signal: session.signal })).service.spec;
    const changes = { ...asked, ...(lists && spec && lists(spec)) };
    if (Object.keys(changes).length === 0)
      throw usage('nothing to change', 'for example: skiff service update --deployment latest web');
    const state = await client.services.update(name, changes, { signal: session.signal });
    await finish(session, state, options, deployment !== undefined || force === true);
  });
  command
    .command('scale')
    .summary('change how many replicas there are')
    .argument('<service=count...>', 'for example web=5')
    .option('-d, --detach', 'do not wait until it is so')
    .action(async (assignments, options) => {
      const client = openClient(session);
      for (const text of assignments) {
        const [, name, count] = /^([^=]+)=(\d{1,4})$/.exec(text) ?? [];
        if (name === undefined) throw usage(`"${text}" is not of the form service=count`);
        const state = await client.services.update(
          name,
          { replicas: Number(count) },
          { signal: session.signal },
        );
        await finish(session, state, options);
      }
    });
  command
    .command('rollback')
    .summary('go back to before the last update')
    .argument('<service>')
    .option('-d, --detach', 'do not wait until it is so')
    .action(async (name, options) =>
      finish(session, await openClient(session).services.rollback(name, { signal: session.signal }), options),
    );
  command
    .command('rm')
    .aliases(['remove', 'delete'])
    .summary('remove services and end their replicas')
    .argument('<service...>')
    .action(async (names) => {
      const client = openClient(session);
      for (const name of names) {
        await client.services.remove(name, { signal: session.signal });
        session.output.out.line(name);
      }
    });
}

interface FinishOptions {
  readonly detach?: true | undefined;
  readonly json?: true | undefined;
}

/** `isRollout`: the command asked for another deployment, so an update that did not go through is its failure. */
async function finish(
  session: Session,
  state: ServiceState,
  options: FinishOptions,
  isRollout = false,
): Promise<void> {
  const end = options.detach ? state : await waitForService(session, state.service.name);
  if (options.json) session.output.json(end);
  else session.output.out.line(options.detach ? end.service.name : end.url);
  if (options.detach) return;
  const wasStopped = isRollout && end.service.updateStatus?.state !== 'completed';
  if (end.running < end.desired || wasStopped) session.exitCode = ExitCode.notConverged;
}

function defineReads(command: Command, session: Session): void {
  command
    .command('ls')
    .aliases(['list'])
    .summary('list services')
    .option('-q, --quiet', 'print names alone')
    .option('--json', 'print the records')
    .action(async (options) => {
      const services = await openClient(session).services.list({ signal: session.signal });
      if (options.quiet) return services.forEach(({ service }) => session.output.out.line(service.name));
      if (options.json) session.output.json(services);
      else printTable(session.output.out, SERVICE_COLUMNS, services);
    });
  command
    .command('ps')
    .aliases(['tasks'])
    .summary('list the replicas of a service')
    .argument('<service>')
    .option('-q, --quiet', 'print the ids of tasks alone')
    .option('--json', 'print the records')
    .action(async (name, options) => {
      const { replicas, message } = await openClient(session).services.get(name, { signal: session.signal });
      if (options.json) return session.output.json(replicas);
      if (options.quiet) return replicas.forEach(({ task }) => session.output.out.line(task));
      printTable(session.output.out, createReplicaColumns(Date.now()), replicas);
      if (message !== undefined) session.output.err.line(message);
    });
  command
    .command('inspect')
    .aliases(['describe', 'status'])
    .summary('show one service in full')
    .argument('<service>')
    .option('--json', 'print the record')
    .action(async (name, options) => {
      const state = await openClient(session).services.get(name, { signal: session.signal });
      if (options.json) return session.output.json(state);
      printService(session, state);
    });
}

function printService({ output: { out } }: Session, state: ServiceState): void {
  const { service, message, url } = state;
  const { spec, updateStatus } = service;
  const fields = formatFields(out, [
    ['name', out.style('bold', service.name)],
    ['url', url],
    ['function', spec.functionName],
    ['deployment', spec.deployment],
    ['mode', spec.mode],
    ['replicas', formatReplicas(state)],
    ['constraints', spec.constraints.join(' and ') || undefined],
    ['preferences', spec.preferences.join(', ') || undefined],
    ['at most', spec.replicasMaxPerNode > 0 ? `${spec.replicasMaxPerNode} on a node` : undefined],
    ['replaced', formatUpdatePolicy(spec.update)],
    ['update', updateStatus && `${updateStatus.state} (${updateStatus.message})`],
    ['problem', message],
  ]);
  for (const line of fields) out.line(line);
}

function formatUpdatePolicy(policy: ServiceState['service']['spec']['update']): string {
  const { parallelism, order, delayMs, monitorMs, failureAction } = policy;
  const width = parallelism === 0 ? 'all at once' : `${parallelism} at a time`;
  return `${width}, ${order}, ${delayMs / 1_000} s apart, watched for ${monitorMs / 1_000} s; on failure: ${failureAction}`;
}

const formatReplicas = ({ running, serving = running, desired }: ServiceState): string =>
  `${serving}/${desired}`;

const SERVICE_COLUMNS: Column<ServiceState>[] = [
  { title: 'NAME', value: (row) => row.service.name },
  { title: 'MODE', isSpare: true, value: (row) => row.service.spec.mode },
  { title: 'REPLICAS', value: formatReplicas, align: 'right' },
  { title: 'FUNCTION', value: (row) => row.service.spec.functionName },
  { title: 'DEPLOYMENT', isSpare: true, value: (row) => row.service.spec.deployment },
  { title: 'UPDATE', isSpare: true, value: (row) => row.service.updateStatus?.state ?? '' },
  { title: 'PROBLEM', value: (row) => row.message ?? '', isFlexible: true },
];

function createReplicaColumns(nowMs: number): Column<Replica>[] {
  return [
    { title: 'TASK', value: (row) => row.task },
    { title: 'NAME', value: (row) => (row.slot === 0 ? row.service : `${row.service}.${row.slot}`) },
    { title: 'DEPLOYMENT', isSpare: true, value: (row) => row.deployment },
    { title: 'NODE', value: (row) => row.node },
    { title: 'STATE', value: (row) => row.state },
    { title: 'SINCE', isSpare: true, value: (row) => formatAgo(row.sinceMs, nowMs) },
    { title: 'PROBLEM', value: (row) => row.message ?? '', isFlexible: true },
  ];
}

function defineLogs(command: Command, session: Session): void {
  command
    .command('logs')
    .aliases(['log', 'tail'])
    .summary('show what the replicas of a service logged')
    .argument('<service>')
    .option('-f, --follow', 'go on with new lines')
    .option(
      '-n, --tail <lines>',
      'past lines to show at most (default: 100, or all with --since)',
      parseCount,
    )
    .option('--since <time>', 'not older than this: 30s, 5m, 2h, or a date and time')
    .option('-t, --timestamps', 'show date and time in full')
    .option('--json', 'one JSON object a line')
    .action(async (name, options) => {
      const client = openClient(session);
      const { service, replicas } = await client.services.get(name, { signal: session.signal });
      const { follow, tail, since } = options;
      const sinceMs = since === undefined ? undefined : parseSince(since, Date.now());
      const selection = { follow, tail, sinceMs, service: name, signal: session.signal };
      const { out } = session.output;
      const nameOf = createReplicaNames(replicas);
      for await (const line of client.logs(service.spec.functionName, selection)) {
        const text = formatLogLine(out, line, options.timestamps === true);
        await out.write(options.json ? `${JSON.stringify(line)}\n` : `${nameOf(line.sandbox)} ${text}`);
      }
    });
}

const SANDBOX_CHARS = 6;

/** Which replica wrote a line: `web.1` while its sandbox runs, else the end of its sandbox's id. */
function createReplicaNames(replicas: readonly Replica[]): (sandbox: string | undefined) => string {
  const names = new Map(
    replicas.map(({ sandbox, slot, service }) => [sandbox, slot === 0 ? service : `${service}.${slot}`]),
  );
  return (sandbox) => (sandbox && names.get(sandbox)) ?? sandbox?.slice(-SANDBOX_CHARS) ?? '-';
}
