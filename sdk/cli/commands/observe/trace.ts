/** `skiff trace`: where the time of one invocation went, and what it logged on the way. */
import type { Command } from '@commander-js/extra-typings';
import type { LogLine, Trace, TraceSpan } from '../../../client/index.ts';
import { type CliClient, openClient } from '../../connection/server.ts';
import { formatLevel, formatLogFields, makeSafe } from '../../output/function-text.ts';
import { parseCount } from '../../options/parse.ts';
import { formatAgo } from '../../output/quantities.ts';
import { printTable } from '../../output/table.ts';
import { formatDuration, formatWaterfall } from '../../output/waterfall.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff trace inv-01k…              its id is in the answer's header skiff-invocation-id
  $ skiff trace inv-01k… --no-logs
  $ skiff trace hello                 its last calls; --failed or --cold for those that were
  $ skiff trace inv-01k… --json | jq '.spans[] | [.functionName, .execMs]'
  $ skiff invoke hello --trace        call it, and see the same

Calls that functions made by context.invoke stand below their caller, whichever gateway made them. Of an asynchronous
invocation: its attempts, with their calls and durable steps. Gateways remember their last few thousand calls; for more,
send OpenTelemetry traces to a store.
`;

const CALLS_DEFAULT = 20;
const LINES_MAX = 50;
const FUNCTIONS_MAX = 10;

export function define(command: Command, session: Session): void {
  command
    .argument('<invocation>', 'id of an invocation, or the name of a function for its last calls')
    .option('-n, --tail <calls>', 'of a function: calls to list at most', parseCount, CALLS_DEFAULT)
    .option('--failed', 'of a function: only calls that failed')
    .option('--cold', 'of a function: only calls that waited for a sandbox to start')
    .option('--no-logs', 'leave out what it logged')
    .option('--json', 'print the spans')
    .addHelpText('after', EXAMPLES)
    .action(async (id, options) => {
      const client = openClient(session);
      const { out } = session.output;
      if (!id.startsWith('inv-')) return listCalls(session, client, id, options);
      const trace = await client.trace(id, { signal: session.signal });
      if (options.json) return session.output.json(trace);
      for (const line of formatWaterfall(out, trace)) out.line(line);
      if (options.logs) await printLogs(session, client, trace);
    });
}

interface ListOptions {
  readonly tail: number;
  readonly failed?: true | undefined;
  readonly cold?: true | undefined;
  readonly json?: true | undefined;
}

async function listCalls(
  session: Session,
  client: CliClient,
  name: string,
  { tail: limit, failed, cold, json }: ListOptions,
): Promise<void> {
  const { signal } = session;
  const only = failed ? 'failed' : cold ? 'cold' : undefined;
  const calls = await client.calls({ function: name, only, limit, signal });
  if (calls.length === 0) await client.get(name, { signal });
  if (json) return session.output.json(calls);
  if (calls.length === 0) return session.output.err.line(`no such calls of "${name}" lately`);
  const nowMs = Date.now();
  const time = (ms: number | undefined): string => (ms === undefined ? '-' : formatDuration(ms));
  printTable(
    session.output.out,
    [
      { title: 'INVOCATION', value: (call: TraceSpan) => call.id },
      { title: 'WHEN', value: ({ startMs }) => formatAgo(startMs, nowMs) },
      { title: 'RESULT', value: ({ cause, status }) => cause ?? String(status ?? 'left') },
      { title: 'ALL', align: 'right', value: ({ ms }) => time(ms) },
      { title: 'QUEUE', align: 'right', isSpare: true, value: ({ queueMs }) => time(queueMs) },
      { title: 'COLD', align: 'right', isSpare: true, value: ({ coldMs }) => (coldMs ? time(coldMs) : '-') },
      { title: 'EXEC', align: 'right', isSpare: true, value: ({ execMs }) => time(execMs) },
      { title: 'NODE', isSpare: true, value: ({ node }) => node ?? '' },
    ],
    calls,
  );
}

async function printLogs(session: Session, client: CliClient, trace: Trace): Promise<void> {
  const { out } = session.output;
  const calls = new Map(trace.spans.map((span) => [span.id, span]));
  const lines: { readonly name: string; readonly line: LogLine }[] = [];
  for (const { id, functionName: name } of [...calls.values()].slice(0, FUNCTIONS_MAX)) {
    const options = { invocation: id, tail: LINES_MAX, signal: session.signal };
    for await (const line of client.logs(name, options)) lines.push({ name, line });
  }
  if (lines.length === 0) return;
  const zeroMs = trace.acceptedMs ?? trace.spans[0]?.startMs ?? 0;
  out.line();
  for (const { name, line } of lines.toSorted((a, b) => a.line.atMs - b.line.atMs).slice(0, LINES_MAX)) {
    const at = out.style('dim', `+${formatDuration(Math.max(0, line.atMs - zeroMs))}`.padStart(9));
    const who = calls.size > 1 ? `${out.style('dim', name)} ` : '';
    const text = `${makeSafe(line.message)}${formatLogFields(out, line.fields)}`;
    out.line(`${at} ${formatLevel(out, line.level)} ${who}${text}`);
  }
}
