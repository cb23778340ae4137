/** `skiff invocation`: look at asynchronous invocations, wait for them, cancel them. */
import type { Command } from '@commander-js/extra-typings';
import type { Attempt, InvocationRecord, InvocationStep } from '../../../client/index.ts';
import { tryParseMs } from '../../../protocol/units.ts';
import { openClient } from '../../connection/server.ts';
import { ExitCode, usage } from '../../failure.ts';
import { formatAgo, formatBytes, formatMs, plural } from '../../output/quantities.ts';
import type { Channel, Style } from '../../output/channel.ts';
import { type Column, formatFields, formatTable } from '../../output/table.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ id=$(skiff invoke resize -d @photo.jpg --async)
  $ skiff invocation show $id                state and attempts
  $ skiff invocation wait $id                until it has ended; exit code 4 unless it succeeded
  $ skiff invocation result $id > small.jpg  what the function answered
  $ skiff invocation cancel $id
`;

export function define(command: Command, session: Session): void {
  command.addHelpText('after', EXAMPLES);
  defineShow(command, session);
  defineWait(command, session);
  defineResult(command, session);
  defineCancel(command, session);
}

function defineShow(command: Command, session: Session): void {
  command
    .command('show')
    .aliases(['inspect', 'status'])
    .summary('show state and attempts')
    .argument('<id>')
    .option('--json', 'print the record')
    .addHelpText('after', EXAMPLES)
    .action(async (id, options) => {
      const client = openClient(session);
      const record = await client.invocation(id, { signal: session.signal });
      if (options.json) return session.output.json(record);
      printInvocation(session.output.out, record);
      if (record.steps === 0) return;
      printSteps(session.output.out, await client.invocationSteps(id, { signal: session.signal }));
    });
}

function defineWait(command: Command, session: Session): void {
  command
    .command('wait')
    .summary('wait until it has ended')
    .argument('<id>')
    .option('--timeout <duration>', 'give up after this, such as 5m (default: never)')
    .option('--json', 'print the record')
    .action(async (id, options) => {
      const waitMs = options.timeout === undefined ? Infinity : tryParseMs(options.timeout);
      if (waitMs === undefined) throw usage(`"${options.timeout}" is not a duration`, 'write 30s, 5m, 1h');
      const record = await openClient(session).waitFor(id, { waitMs, signal: session.signal });
      if (options.json) session.output.json(record);
      else session.output.out.line(describeState(session.output.out, record));
      session.exitCode = exitCodeOf(record);
    });
}

function exitCodeOf({ state, endedMs }: InvocationRecord): ExitCode {
  if (endedMs === undefined) return ExitCode.notConverged;
  return state === 'succeeded' ? ExitCode.ok : ExitCode.functionError;
}

function defineResult(command: Command, session: Session): void {
  command
    .command('result')
    .summary('print what the function answered')
    .argument('<id>')
    .action(async (id) => {
      const { out } = session.output;
      const response = await openClient(session).result(id, { signal: session.signal });
      for await (const chunk of response.body as AsyncIterable<Buffer>) await out.write(chunk);
      if (response.status >= 400) session.exitCode = ExitCode.functionError;
    });
}

function defineCancel(command: Command, session: Session): void {
  command
    .command('cancel')
    .aliases(['rm', 'stop'])
    .summary('cancel invocations')
    .argument('<ids...>')
    .action(async (ids) => {
      const client = openClient(session);
      for (const id of ids) {
        const record = await client.cancel(id, { signal: session.signal });
        session.output.out.line(`${id}  ${describeState(session.output.out, record)}`);
        if (record.state !== 'cancelled') session.exitCode = ExitCode.notConverged;
      }
    });
}

const STATE_STYLE: Readonly<Record<InvocationRecord['state'], Style>> = {
  delayed: 'dim',
  ready: 'cyan',
  running: 'cyan',
  retry_wait: 'yellow',
  waiting: 'cyan',
  succeeded: 'green',
  dead: 'red',
  expired: 'red',
  cancelled: 'dim',
};

export function describeState(out: Channel, { state, reason }: InvocationRecord): string {
  const isPlain = reason === undefined || state === 'succeeded' || state === 'cancelled';
  return out.style(STATE_STYLE[state], isPlain ? state : `${state} (${reason})`);
}

export function printInvocation(out: Channel, record: InvocationRecord): void {
  const nowMs = Date.now();
  const at = (ms: number | undefined): string | undefined =>
    ms === undefined ? undefined : `${new Date(ms).toISOString()}, ${formatAgo(ms, nowMs)}`;
  const fields = formatFields(out, [
    ['id', record.id],
    ['function', record.functionName],
    ['state', describeState(out, record)],
    ['request', `${record.method} ${record.url}, ${formatBytes(record.bodyBytes)}`],
    ['from', record.origin],
    ['accepted', at(record.acceptedMs)],
    ['due', record.dueMs === undefined ? undefined : new Date(record.dueMs).toISOString()],
    ['ended', at(record.endedMs)],
    ['expires', record.endedMs === undefined ? new Date(record.expiresMs).toISOString() : undefined],
    ['ordering key', record.orderingKey],
    ['steps', describeSteps(record)],
    ['replays', record.replays === 0 ? undefined : String(record.replays)],
  ]);
  for (const line of fields) out.line(line);
  if (record.attempts.length === 0) return;
  out.line();
  for (const line of formatTable(out, attemptColumns(nowMs), record.attempts)) out.line(line);
}

function printSteps(out: Channel, steps: readonly InvocationStep[]): void {
  const columns: Column<InvocationStep>[] = [
    { title: 'STEP', value: ({ name }) => name, isFlexible: true },
    { title: 'KIND', value: ({ kind }) => kind },
    { title: 'STATE', value: ({ isPending }) => (isPending ? out.style('cyan', 'waiting') : 'done') },
    {
      title: 'UNTIL',
      value: ({ dueMs }) => (dueMs === undefined ? '' : new Date(dueMs).toISOString()),
    },
  ];
  const last = steps.toSorted((a, b) => Number(a.isPending) - Number(b.isPending));
  out.line();
  for (const line of formatTable(out, columns, last)) out.line(line);
}

function describeSteps({ steps, suspensions }: InvocationRecord): string | undefined {
  if (steps === 0) return undefined;
  return suspensions === 0 ? `${steps} stored` : `${steps} stored, suspended ${plural(suspensions, 'time')}`;
}

function attemptColumns(nowMs: number): Column<Attempt>[] {
  return [
    { title: 'TRY', align: 'right', value: ({ number }) => String(number) },
    { title: 'OUTCOME', value: ({ outcome }) => outcome ?? 'running' },
    { title: 'STATUS', align: 'right', value: ({ status }) => (status === undefined ? '' : String(status)) },
    { title: 'STARTED', isSpare: true, value: ({ startedMs }) => formatAgo(startedMs, nowMs) },
    {
      title: 'TOOK',
      align: 'right',
      value: ({ startedMs, endedMs }) => (endedMs === undefined ? '' : formatMs(endedMs - startedMs)),
    },
    { title: 'DEPLOYMENT', isSpare: true, value: ({ deployment }) => deployment ?? '' },
    { title: 'MESSAGE', isFlexible: true, value: ({ message }) => message ?? '' },
  ];
}
