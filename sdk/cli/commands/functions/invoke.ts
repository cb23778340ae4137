/** `skiff invoke`: call a function; its answer streams to stdout as it comes. */
import { createReadStream, existsSync } from 'node:fs';
import { extname, resolve } from 'node:path';
import type { Command } from '@commander-js/extra-typings';
import type { HttpResponse } from '../../connection/http-fetch.ts';
import { openClient } from '../../connection/server.ts';
import type { Problem } from '../../../protocol/errors.ts';
import { CliFailure, ExitCode, usage } from '../../failure.ts';
import { collect, parseAssignment, parseHeader } from '../../options/parse.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff invoke hello                             GET /
  $ skiff invoke hello /users/7 --query full=1     the function sees /users/7?full=1
  $ skiff invoke hello -d '{"name":"Ada"}'         POST, as JSON
  $ skiff invoke resize -d @photo.jpg > small.jpg  a file, streamed both ways
  $ echo hi | skiff invoke shout -d -              standard input
  $ skiff invoke hello -X DELETE -H 'x-key: 1' -i  method, header, show the answer's headers
  $ skiff invoke resize -d @photo.jpg --async      runs at least once, also if this host goes down; prints its id

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
    .option('--key <key>', 'idempotency key: repeating the command is the same invocation')
    .addHelpText('after', EXAMPLES)
    .action(async (name, path, options) => {
      const data = options.data === undefined ? undefined : readData(session, options.data);
      const headers = (options.header ?? []).map(parseHeader);
      if (data && !headers.some(([header]) => header.toLowerCase() === 'content-type')) {
        headers.push(['content-type', data.type]);
      }
      const request = {
        path: addQuery(path, (options.query ?? []).map(parseAssignment)),
        headers,
        signal: session.signal,
        ...(options.method === undefined ? {} : { method: options.method.toUpperCase() }),
        ...(data === undefined ? {} : { body: data.body }),
      };
      if (options.async) {
        const { delay, key: idempotencyKey } = options;
        const { id } = await openClient(session).invokeAsync(name, { ...request, delay, idempotencyKey });
        return session.output.out.line(id);
      }
      if (options.delay !== undefined) throw usage('--delay needs --async');
      if (options.key !== undefined) headers.push(['idempotency-key', options.key]);
      const response = await openClient(session).fetch(name, request);
      if (options.include) printHead(session, response);
      await printAnswer(session, name, response, options.include === true);
    });
}

function addQuery(path: string, query: readonly (readonly [string, string])[]): string {
  if (query.length === 0) return path;
  const text = query.map((pair) => pair.map(encodeURIComponent).join('=')).join('&');
  return `${path}${path.includes('?') ? '&' : '?'}${text}`;
}

interface Data {
  readonly body: string | (() => AsyncIterable<Uint8Array>);
  readonly type: string;
}

const TYPES: Readonly<Record<string, string>> = {
  '.json': 'application/json',
  '.txt': 'text/plain; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.csv': 'text/csv; charset=utf-8',
  '.xml': 'application/xml',
  '.png': 'image/png',
  '.jpg': 'image/jpeg',
  '.jpeg': 'image/jpeg',
};

function readData(session: Session, data: string): Data {
  if (data === '-' || data === '@-') {
    if (session.stdin.isTTY)
      session.output.err.line('reading the body from the terminal; end it with Ctrl-D');
    return { body: () => session.stdin, type: 'application/octet-stream' };
  }
  if (data.startsWith('@')) {
    const path = resolve(session.cwd, data.slice(1));
    if (!existsSync(path))
      throw usage(`${path} does not exist`, `a text that begins with @ goes through standard input: -d -`);
    return {
      body: () => createReadStream(path),
      type: TYPES[extname(path).toLowerCase()] ?? 'application/octet-stream',
    };
  }
  return { body: data, type: isJson(data) ? 'application/json' : 'text/plain; charset=utf-8' };
}

function isJson(text: string): boolean {
  try {
    return typeof JSON.parse(text) === 'object';
  } catch {
    return false;
  }
}

function printHead({ output: { out } }: Session, response: HttpResponse): void {
  const color = response.status < 400 ? 'green' : 'red';
  out.line(out.style(color, `HTTP/1.1 ${response.status} ${response.statusText}`.trimEnd()));
  for (const [name, value] of response.headers.entries()) out.line(`${out.style('cyan', name)}: ${value}`);
  out.line();
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

/** A problem document of the platform; one that a function wrote has no code of ours and is its answer. */
async function tryReadProblem(response: HttpResponse): Promise<Problem | undefined> {
  const isProblem = response.headers.get('content-type')?.startsWith('application/problem+json');
  const isPlatforms =
    response.headers.get('skiff-cause') !== null || response.headers.get('skiff-deployment') === null;
  if (response.status < 400 || !isProblem || !isPlatforms) return undefined;
  return JSON.parse(await response.text()) as Problem;
}

function describeProblem(problem: Problem, name: string): CliFailure {
  const id = problem.invocationId;
  const isFunctions = problem.fault === 'function';
  return new CliFailure(`${problem.detail}${id === undefined ? '' : ` (${id})`}`, {
    exitCode: isFunctions ? ExitCode.functionError : ExitCode.failed,
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
