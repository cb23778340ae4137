/**
 * `skiff bench`: how fast one's own function answers, warm and cold. What a call spent in the queue, in starting a
 * sandbox and in the function is read from each answer, so that a cold start among the warm calls is not counted as one.
 */
import type { Command } from '@commander-js/extra-typings';
import { type CliClient, openClient } from '../../connection/server.ts';
import { CliFailure, ExitCode, usage } from '../../failure.ts';
import { collect, parseCount } from '../../options/parse.ts';
import { type CallRequest, readRequest } from '../../options/request.ts';
import { formatReport, type Sample, summarize } from '../../output/bench-report.ts';
import { type Board, createBoard } from '../../output/board.ts';
import { parseServerTiming } from '../../output/call-trace.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff bench hello                          200 calls, 10 at a time
  $ skiff bench hello /users/7 -n 5000 -c 50
  $ skiff bench hello -d '{"name":"Ada"}' --cold 10
  $ skiff bench hello --json | jq .warm.all.p99

--cold ends the function's sandboxes before each of its calls, as skiff restart does: not for a function under load.
Exit code: 0, or 4 when a call failed.
`;

const CALLS_DEFAULT = 200;
const AT_ONCE_DEFAULT = 10;
const AT_ONCE_MAX = 1_000;

export function define(command: Command, session: Session): void {
  command
    .argument('<function>', 'name of the function')
    .argument('[path]', 'path and query the function sees', '/')
    .option('-n, --requests <n>', 'warm calls', parseCount, CALLS_DEFAULT)
    .option('-c, --concurrency <n>', 'calls at a time', parseCount, AT_ONCE_DEFAULT)
    .option('--cold <n>', 'calls before them that each start a new sandbox', parseCount, 0)
    .option('-d, --data <data>', 'body: a text, @file, or - for standard input')
    .option('-X, --method <method>', 'method (default: GET, or POST with --data)')
    .option('-H, --header <header>', 'header as "name: value"', collect)
    .option('--json', 'print { warm, cold } with all percentiles, in milliseconds')
    .addHelpText('after', EXAMPLES)
    .action(async (name, path, options) => {
      const { requests, concurrency, cold } = options;
      if (requests + cold === 0) throw usage('no calls: give --requests or --cold');
      if (concurrency < 1 || concurrency > AT_ONCE_MAX) throw usage(`--concurrency is 1 to ${AT_ONCE_MAX}`);
      const client = openClient(session);
      await client.get(name, { signal: session.signal });
      const run: Run = { client, name, session, request: await fix(readRequest(session, path, options)) };
      const board = createBoard(session.output.err, [...(cold > 0 ? ['cold'] : []), 'warm']);
      try {
        const coldSamples = await callCold(run, cold, board);
        const { samples, ms } = await callWarm(run, requests, concurrency, board);
        board.stop();
        const all = [...coldSamples, ...samples];
        const report = summarize(all, { ms, warmCalls: samples.length, concurrency });
        if (options.json) session.output.json(report);
        else for (const line of formatReport(session.output.out, report)) session.output.out.line(line);
        if (all.some(({ failure }) => failure !== undefined)) session.exitCode = ExitCode.functionError;
      } finally {
        board.stop();
      }
    });
}

interface Run {
  readonly client: CliClient;
  readonly name: string;
  readonly session: Session;
  readonly request: Omit<CallRequest, 'body'> & { readonly body?: string | Uint8Array };
}

/** A stream can be read once, and is sent many times. */
async function fix({ body, ...request }: CallRequest): Promise<Run['request']> {
  if (body === undefined || typeof body === 'string')
    return { ...request, ...(body !== undefined && { body }) };
  const chunks: Uint8Array[] = [];
  for await (const chunk of body()) chunks.push(chunk);
  return { ...request, body: Buffer.concat(chunks) };
}

async function call({ client, name, session, request }: Run): Promise<Sample> {
  const startMs = performance.now();
  const response = await client.fetch(name, request);
  const headMs = performance.now() - startMs;
  for await (const _ of response.body as AsyncIterable<Uint8Array>) session.signal.throwIfAborted();
  const timing = parseServerTiming(response.headers.get('server-timing') ?? '');
  const failure =
    response.headers.get('skiff-cause') ?? (response.status >= 400 ? String(response.status) : undefined);
  return {
    allMs: performance.now() - startMs,
    headMs,
    queueMs: timing.get('queue') ?? 0,
    coldMs: timing.get('cold') ?? 0,
    execMs: timing.get('exec') ?? 0,
    ...(failure !== undefined && { failure }),
  };
}

async function callWarm(
  run: Run,
  count: number,
  atOnce: number,
  board: Board,
): Promise<{ samples: Sample[]; ms: number }> {
  if (count === 0) {
    board.done('warm', 'skipped', 'no calls');
    return { samples: [], ms: 0 };
  }
  board.set('warm', 'first call');
  // The connections and the first sandbox are made outside of what is measured.
  await call(run);
  const samples: Sample[] = [];
  const startMs = performance.now();
  let left = count;
  const work = async (): Promise<void> => {
    while (left-- > 0) {
      samples.push(await call(run));
      board.set('warm', `${samples.length} of ${count}`);
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, count) }, work));
  const ms = performance.now() - startMs;
  board.done('warm', 'ok', `${count} calls`);
  return { samples, ms };
}

const DRAIN_MS_MAX = 15_000;
const DRAIN_POLL_MS = 20;

async function callCold(run: Run, count: number, board: Board): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (let i = 0; i < count; i++) {
    board.set('cold', `${i + 1} of ${count}`);
    await endSandboxes(run);
    samples.push(await call(run));
  }
  if (count > 0) board.done('cold', 'ok', `${count} calls`);
  return samples;
}

async function endSandboxes({ client, name, session }: Run): Promise<void> {
  const { signal } = session;
  await client.restart(name, { signal });
  const deadline = Date.now() + DRAIN_MS_MAX;
  while (((await client.get(name, { signal })).sandboxes ?? 0) > 0) {
    if (Date.now() > deadline) {
      throw new CliFailure(
        `"${name}" still has sandboxes ${DRAIN_MS_MAX / 1000} s after they were told to end`,
        {
          hint: 'it is under load, or keeps a minimum (--min); leave --cold out',
        },
      );
    }
    await new Promise((resolve) => setTimeout(resolve, DRAIN_POLL_MS));
    signal.throwIfAborted();
  }
}
