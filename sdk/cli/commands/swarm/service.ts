/** `skiff service`: replicas of a function, kept running across nodes. */
import { type Command, Option } from '@commander-js/extra-typings';
import type { Replica, ServiceState, ServiceUpdate } from '../../../client/index.ts';
import { openClient } from '../../connection/server.ts';
import { ExitCode, usage } from '../../failure.ts';
import { collect, parseCount, parseDuration } from '../../options/parse.ts';
import { formatLogLine } from '../../output/function-text.ts';
import { formatAgo } from '../../output/quantities.ts';
import { type Column, formatFields, printTable } from '../../output/table.ts';
import type { Session } from '../../session.ts';
import { waitForService } from './convergence.ts';

const EXAMPLES = `
Examples:
  $ skiff service create --name web --replicas 3 hello     three sandboxes of what is live of hello, over the nodes
  $ skiff service create --name edge --mode global hello   one on every node
  $ skiff service ls
  $ skiff service ps web
  $ skiff service scale web=5
  $ skiff service update --deployment latest web           one after the other; back if one fails
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

/** Options that create and update share. */
function addPolicyOptions(command: Command) {
  return command
    .option(
      '--constraint <expression>',
      'of the nodes, for example node.labels.zone==a; may be repeated',
      collect,
    )
    .option(
      '--placement-pref <preference>',
      'for example spread=node.labels.zone: as many in each zone; may be repeated',
      collect,
    )
    .option('--replicas-max-per-node <count>', 'at most this many on one node (0: no limit)', parseCount)
    .option('--update-parallelism <count>', 'replicas replaced at a time (0: all)', parseCount)
    .option('--update-delay <duration>', 'between two', parseDuration)
    .option('--update-monitor <duration>', 'how long a new replica is watched', parseDuration)
    .addOption(
      new Option('--update-order <order>', 'which comes first').choices([
        'start-first',
        'stop-first',
      ] as const),
    )
    .addOption(
      new Option('--update-failure-action <action>', 'when a new replica fails').choices([
        'pause',
        'continue',
        'rollback',
      ] as const),
    )
    .option('-d, --detach', 'do not wait until it is so')
    .option('--json', 'print the service');
}

type PolicyOptions = ReturnType<ReturnType<typeof addPolicyOptions>['opts']>;

function readPolicy(
  options: PolicyOptions,
): Pick<ServiceUpdate, 'constraints' | 'preferences' | 'replicasMaxPerNode' | 'update'> {
  const update = withoutUndefined({
    parallelism: options.updateParallelism,
    delayMs: options.updateDelay,
    monitorMs: options.updateMonitor,
    order: options.updateOrder,
    failureAction: options.updateFailureAction,
  });
  return withoutUndefined({
    constraints: options.constraint,
    preferences: options.placementPref,
    replicasMaxPerNode: options.replicasMaxPerNode,
    update: Object.keys(update).length === 0 ? undefined : update,
  });
}

function withoutUndefined<T extends Record<string, unknown>>(
  value: T,
): { [Name in keyof T]: Exclude<T[Name], undefined> } {
  const kept = Object.entries(value).filter(([, one]) => one !== undefined);
  return Object.fromEntries(kept) as { [Name in keyof T]: Exclude<T[Name], undefined> };
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
    .option('--replicas <count>', 'how many', parseCount);
  addPolicyOptions(update as unknown as Command);
  update.action(async (name, given) => {
    const options = given as typeof given & PolicyOptions;
    const { deployment, replicas } = given;
    const changes = { ...withoutUndefined({ deployment, replicas }), ...readPolicy(options) };
    if (Object.keys(changes).length === 0)
      throw usage('nothing to change', 'for example: skiff service update --deployment latest web');
    const state = await openClient(session).services.update(name, changes, { signal: session.signal });
    await finish(session, state, options, deployment !== undefined);
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
    .option('--json', 'print the records')
    .action(async (options) => {
      const services = await openClient(session).services.list({ signal: session.signal });
      if (options.json) session.output.json(services);
      else printTable(session.output.out, SERVICE_COLUMNS, services);
    });
  command
    .command('ps')
    .aliases(['tasks'])
    .summary('list the replicas of a service')
    .argument('<service>')
    .option('--json', 'print the records')
    .action(async (name, options) => {
      const { replicas, message } = await openClient(session).services.get(name, { signal: session.signal });
      if (options.json) return session.output.json(replicas);
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
    ['update', updateStatus && `${updateStatus.state} (${updateStatus.message})`],
    ['problem', message],
  ]);
  for (const line of fields) out.line(line);
}

const formatReplicas = ({ running, desired }: ServiceState): string => `${running}/${desired}`;

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
    .option('-n, --tail <lines>', 'past lines of the function to look at', parseCount)
    .option('--json', 'one JSON object a line')
    .action(async (name, options) => {
      const client = openClient(session);
      const { service } = await client.services.get(name, { signal: session.signal });
      const { follow, tail } = options;
      const lines = client.logs(service.spec.functionName, { follow, tail, signal: session.signal });
      const { out } = session.output;
      for await (const line of lines) {
        // The function's own sandboxes log to the same place.
        if (!line.deployment?.endsWith(`@${name}`)) continue;
        await out.write(options.json ? `${JSON.stringify(line)}\n` : formatLogLine(out, line, false));
      }
    });
}
