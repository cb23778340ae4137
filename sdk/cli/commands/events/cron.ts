/** `skiff cron`: functions that run by the clock. */
import { type Command, Option } from '@commander-js/extra-typings';
import type { Schedule } from '../../../client/index.ts';
import { openClient } from '../../connection/server.ts';
import { usage } from '../../failure.ts';
import { formatAgo, formatMs } from '../../output/quantities.ts';
import { type Column, formatFields, printTable } from '../../output/table.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff cron create nightly report --cron '0 3 * * *' --timezone Europe/Berlin
  $ skiff cron create pulse check --every 30s --overlap allow
  $ skiff cron create launch announce --at 2027-01-01T00:00:00Z -d '{"year":2027}'
  $ skiff cron ls
  $ skiff cron pause nightly
  $ skiff cron run nightly           now, beside its ticks

Ticks that overlap: --overlap skip (default), allow, queue-one. Ticks missed while the server was down: --missed latest
(default), skip, all.
`;

export function define(command: Command, session: Session): void {
  command.addHelpText('after', EXAMPLES);
  defineList(command, session);
  defineShow(command, session);
  defineCreate(command, session);
  defineRun(command, session);
  defineChange(command, session, 'pause', 'fire no more ticks until it is resumed');
  defineChange(command, session, 'resume', 'go on from the next tick');
  defineRemove(command, session);
}

function defineList(command: Command, session: Session): void {
  command
    .command('ls')
    .alias('list')
    .summary('list schedules')
    .option('--json', 'print the records')
    .action(async (options) => {
      const schedules = await openClient(session).schedules.list({ signal: session.signal });
      if (options.json) return session.output.json(schedules);
      if (schedules.length > 0) printTable(session.output.out, createColumns(Date.now()), schedules);
      else session.output.err.line('there are no schedules; make one with: skiff cron create');
    });
}

function createColumns(nowMs: number): Column<Schedule>[] {
  return [
    { title: 'NAME', value: ({ name }) => name },
    { title: 'FUNCTION', value: (row) => row.function },
    { title: 'WHEN', value: describeTiming, isFlexible: true },
    { title: 'NEXT', value: (row) => describeNext(row, nowMs) },
    {
      title: 'LAST',
      isSpare: true,
      value: ({ lastMs }) => (lastMs === undefined ? 'never' : formatAgo(lastMs, nowMs)),
    },
    { title: 'FIRED', isSpare: true, align: 'right', value: ({ fired }) => String(fired) },
    { title: 'SKIPPED', isSpare: true, align: 'right', value: ({ skipped }) => String(skipped) },
    { title: 'MISSED', isSpare: true, align: 'right', value: ({ missedCount }) => String(missedCount) },
  ];
}

function describeTiming({ cron, every, at, timezone }: Schedule): string {
  if (cron !== undefined) return timezone === 'UTC' ? cron : `${cron} (${timezone})`;
  return every === undefined ? `once at ${at}` : `every ${formatMs(every)}`;
}

function describeNext({ nextMs, paused }: Schedule, nowMs: number): string {
  if (paused) return 'paused';
  if (nextMs === undefined) return 'over';
  return nextMs <= nowMs ? 'now' : `in ${formatMs(nextMs - nowMs)}`;
}

function defineShow(command: Command, session: Session): void {
  command
    .command('show')
    .alias('inspect')
    .summary('show one schedule')
    .argument('<name>')
    .option('--json', 'print the record')
    .action(async (name, options) => {
      const schedule = await openClient(session).schedules.get(name, { signal: session.signal });
      if (options.json) session.output.json(schedule);
      else printSchedule(session, schedule);
    });
}

function printSchedule({ output: { out } }: Session, schedule: Schedule): void {
  const at = (ms: number | undefined): string | undefined => (ms && new Date(ms).toISOString()) || undefined;
  const fields = formatFields(out, [
    ['name', schedule.name],
    ['function', schedule.function],
    ['when', describeTiming(schedule)],
    ['next', at(schedule.nextMs) ?? describeNext(schedule, Date.now())],
    ['last', at(schedule.lastMs)],
    ['last invocation', schedule.lastInvocation],
    ['overlap', schedule.overlap],
    ['missed ticks', schedule.missed],
    ['jitter', schedule.jitter === 0 ? undefined : formatMs(schedule.jitter)],
    ['request', `${schedule.method} ${schedule.path}`],
    ['ticks', `${schedule.fired} fired, ${schedule.skipped} skipped, ${schedule.missedCount} missed`],
  ]);
  for (const line of fields) out.line(line);
}

function defineCreate(command: Command, session: Session): void {
  command
    .command('create')
    .aliases(['add', 'set', 'put'])
    .summary('create or replace a schedule')
    .argument('<name>')
    .argument('<function>')
    .option(
      '--cron <expression>',
      "minute hour day month weekday, with seconds in front if wanted: '0 3 * * *'",
    )
    .option('--every <duration>', 'such as 30s, 15m, 12h')
    .option('--at <time>', 'once, at this date and time, such as 2027-01-01T00:00:00Z')
    .option('--timezone <name>', 'in which --cron is meant, such as Europe/Berlin (default: UTC)')
    .addOption(
      new Option('--overlap <policy>', 'while the last one runs').choices([
        'allow',
        'skip',
        'queue-one',
      ] as const),
    )
    .addOption(
      new Option('--missed <policy>', 'after a downtime').choices(['skip', 'latest', 'all'] as const),
    )
    .option('--jitter <duration>', 'put each tick off by a part of this')
    .option('-d, --data <data>', 'body of the request')
    .option('-X, --method <method>', 'method (default: POST)')
    .option('--path <path>', 'path and query the function sees (default: /)')
    .option('--json', 'print the record')
    .addHelpText('after', EXAMPLES)
    .action(async (name, functionName, options) => {
      const { cron, every, at, timezone, overlap, missed, jitter, data, method, path } = options;
      if ([cron, every, at].filter((each) => each !== undefined).length !== 1) {
        throw usage('say when', 'give exactly one of --cron, --every and --at');
      }
      const given = {
        cron,
        every,
        at,
        timezone,
        overlap,
        missed,
        jitter,
        path,
        body: parseBody(data),
        method: method?.toUpperCase(),
      };
      const request = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
      const client = openClient(session);
      const schedule = await client.schedules.put(
        name,
        { function: functionName, ...request },
        { signal: session.signal },
      );
      if (options.json) session.output.json(schedule);
      else printSchedule(session, schedule);
    });
}

/** JSON is sent as JSON, anything else as the text it is. */
function parseBody(data: string | undefined): unknown {
  if (data === undefined) return undefined;
  try {
    return JSON.parse(data) as unknown;
  } catch {
    return data;
  }
}

function defineRun(command: Command, session: Session): void {
  command
    .command('run')
    .summary('run it now, beside its ticks')
    .argument('<name>')
    .action(async (name) => {
      const { id } = await openClient(session).schedules.run(name, { signal: session.signal });
      session.output.out.line(id);
    });
}

function defineChange(command: Command, session: Session, verb: 'pause' | 'resume', summary: string): void {
  command
    .command(verb)
    .summary(summary)
    .argument('<names...>')
    .action(async (names) => {
      const client = openClient(session);
      for (const name of names) {
        const schedule = await client.schedules[verb](name, { signal: session.signal });
        session.output.out.line(`${name}  ${describeNext(schedule, Date.now())}`);
      }
    });
}

function defineRemove(command: Command, session: Session): void {
  command
    .command('rm')
    .aliases(['remove', 'delete'])
    .summary('remove schedules')
    .argument('<names...>')
    .action(async (names) => {
      const client = openClient(session);
      for (const name of names) {
        await client.schedules.remove(name, { signal: session.signal });
        session.output.out.line(name);
      }
    });
}
