/** `skiff invoke`: call a function; its answer streams to stdout as it comes. */
import { isUtf8 } from 'node:buffer';
import { type Command, Option } from '@commander-js/extra-typings';
import type { HttpResponse } from '../../connection/http-fetch.ts';
import { openClient } from '../../connection/server.ts';
import type { Problem } from '../../../protocol/errors.ts';
import { CliFailure, ExitCode, usage } from '../../failure.ts';
import { collect } from '../../options/parse.ts';
import { readRequest } from '../../options/request.ts';
import { printCallTrace } from '../../output/call-trace.ts';
import type { Session } from '../../session.ts';

/** As in protocol/events.ts, which costs the schema library to load. */
const PRIORITIES = ['high', 'normal', 'low'] as const;

const EXAMPLES = `
Examples:
  $ skiff invoke hello                             GET /
  $ skiff invoke hello /users/7 --query full=1     the function sees /users/7?full=1
  $ skiff invoke hello -d '{"name":"Ada"}'         POST, as JSON
  $ skiff invoke resize -d @photo.jpg > small.jpg  a file, streamed both ways
  $ echo hi | skiff invoke shout -d -              standard input
  $ skiff invoke hello -X DELETE -H 'x-key: 1' -i  method, header, show the answer's headers
  $ skiff invoke hello --trace                     queue, cold start, execution, and the calls it made
  $ skiff invoke resize -d @photo.jpg --async      runs at least once, also if this host goes down; prints its id
  $ skiff invoke pay -d @order.json --async --ordering-key customer-7 --idempotency-key order-12 --max-age 1h

Exit code: 0, 4 when the function failed or answered with 400 or above, 1 when the platform did not run it.
`;

export function define(command: Command, session: Session): void {
  command
    .argument('<function>', 'name of the function')
    .argument('[path]', 'path and query the function sees', '/')
    .option('-d, --data <data>', 'body: a text, @file, or - for standard input')
    .option('-X, --method <method>', 'method (default: GET, or POST with --data)')
    .option('-H, --header <header>', 'header as "name: value"', collect)
    .option('-q, --query <name=value>', 'add to the query', collect)
    .option('-i, --include', 'print status and headers of the answer, too')
    .option('-a, --async', 'put it into the queue and print its id; see it with: skiff invocation show <id>')
    .option('--delay <duration>', 'with --async: not before this time has passed, such as 10m')
    .option('--max-age <duration>', 'with --async: given up when it has not ended by then (default: 6h)')
    .addOption(
      new Option(
        '--priority <priority>',
        'with --async: among events of this function (default: normal)',
      ).choices(PRIORITIES),
    )
    .option('--ordering-key <key>', 'with --async: one at a time with others of this key, in order')
    .option('--idempotency-key <key>', 'repeating the command with the same key is the same invocation')
    .addOption(new Option('--key <key>', 'the same').hideHelp())
    .addOption(new Option('--stream', 'answers are always streamed').hideHelp())
    .option('--json', 'print { status, headers, body }, or with --async { id, state, location }')
    .option('--trace', 'say where the time went, on standard error')
    .addHelpText('after', EXAMPLES)
    .action(async (name, path, options) => {
      const request = readRequest(session, path, options);
      const { delay, maxAge, priority, orderingKey, idempotencyKey = options.key } = options;
      if (options.async) {
        const event = { delay, maxAge, priority, orderingKey, idempotencyKey };
        const accepted = await openClient(session).invokeAsync(name, { ...request, ...event });
        return options.json ? session.output.json(accepted) : session.output.out.line(accepted.id);
      }
      for (const [flag, value] of Object.entries({ delay, maxAge, priority, orderingKey }))
        if (value !== undefined) throw usage(`--${toFlag(flag)} needs --async`);
      if (idempotencyKey !== undefined) request.headers.push(['idempotency-key', idempotencyKey]);
      const client = openClient(session);
      const startMs = performance.now();
      const response = await client.fetch(name, request);
      const headMs = performance.now() - startMs;
      if (options.include && !options.json) printHead(session, response);
      try {
        if (options.json) await printJson(session, response);
        else await printAnswer(session, name, response, options.include === true);
      } finally {
        if (options.trace) {
          const seen = { headMs, allMs: performance.now() - startMs };
          await printCallTrace(session, client, name, response, seen);
        }
      }
    });
}

const toFlag = (option: string): string => option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

function printHead({ output: { out } }: Session, response: HttpResponse): void {
  const color = response.status < 400 ? 'green' : 'red';
  out.line(out.style(color, `HTTP/1.1 ${response.status} ${response.statusText}`.trimEnd()));
  for (const [name, value] of response.headers.entries()) out.line(`${out.style('cyan', name)}: ${value}`);
  out.line();
}

/** `body` is a text; one that is not UTF-8 is base64, and `encoding` says so. Problems of the platform are bodies, too. */
async function printJson(session: Session, response: HttpResponse): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of response.body as AsyncIterable<Buffer>) {
    session.signal.throwIfAborted();
    chunks.push(chunk);
  }
  const bytes = Buffer.concat(chunks);
  const body = isUtf8(bytes)
    ? { body: bytes.toString() }
    : { body: bytes.toString('base64'), encoding: 'base64' };
  const headers = Object.fromEntries(response.headers.entries());
  session.output.json({ status: response.status, headers, ...body });
  if (response.status < 400) return;
  const problem = isProblem(response) ? (JSON.parse(bytes.toString()) as Problem) : undefined;
  session.exitCode = exitCodeOf(problem);
}

async function printAnswer(
  session: Session,
  name: string,
  response: HttpResponse,
  isVerbose: boolean,
): Promise<void> {
  const problem = await tryReadProblem(response);
  if (problem !== undefined) {
    if (isVerbose) session.output.out.line(JSON.stringify(problem, null, 2));
    throw describeProblem(problem, name);
  }
  await printBody(session, response);
  if (response.status < 400) return;
  session.exitCode = ExitCode.functionError;
  if (!isVerbose) session.output.err.line(`the function answered with status ${response.status}`);
}

/** Is it a problem document of the platform? One that a function wrote has no code of ours and is its answer. */
function isProblem({ status, headers }: HttpResponse): boolean {
  const isDocument = headers.get('content-type')?.startsWith('application/problem+json') === true;
  const isPlatforms = headers.get('skiff-cause') !== null || headers.get('skiff-deployment') === null;
  return status >= 400 && isDocument && isPlatforms;
}

async function tryReadProblem(response: HttpResponse): Promise<Problem | undefined> {
  return isProblem(response) ? (JSON.parse(await response.text()) as Problem) : undefined;
}

/** Of an answer with 400 or above. */
function exitCodeOf(problem: Problem | undefined): ExitCode {
  return problem === undefined || problem.fault === 'function' ? ExitCode.functionError : ExitCode.failed;
}

function describeProblem(problem: Problem, name: string): CliFailure {
  const id = problem.invocationId;
  const isFunctions = problem.fault === 'function';
  return new CliFailure(`${problem.detail}${id === undefined ? '' : ` (${id})`}`, {
    exitCode: exitCodeOf(problem),
    ...(isFunctions && id !== undefined
      ? { hint: `see its log: skiff logs ${name} --invocation ${id}` }
      : {}),
  });
}

async function printBody({ output: { out }, signal }: Session, response: HttpResponse): Promise<void> {
  let last: number | undefined;
  let isFirst = true;
  for await (const chunk of response.body as AsyncIterable<Buffer>) {
    signal.throwIfAborted();
    if (isFirst && out.isTty && chunk.includes(0)) {
      response.body.destroy();
      throw new CliFailure('the answer is binary and would spoil the terminal', {
        hint: 'send it to a file: … > file',
      });
    }
    isFirst = false;
    last = chunk.at(-1);
    await out.write(chunk);
  }
  const isEndedLine = last === undefined || last === 0x0a;
  if (out.isTty && !isEndedLine) out.line();
}
