/**
 * Runs one event for each input, some at a time. Invariant: an input's event is sent under a key made of the run, its
 * line and its try, so that a run that is interrupted anywhere finds what it had sent.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { ClientError, type Client } from '../../client/index.ts';
import type { HttpResponse } from '../connection/http-fetch.ts';
import type { InputLine } from './input-file.ts';
import { isGood, type MapResult, type ResultFile } from './result-file.ts';

export interface MapOptions {
  readonly client: Client<HttpResponse>;
  readonly functionName: string;
  readonly path: string;
  readonly concurrency: number;
  /** Inputs whose results are failures are run again. */
  readonly retriesFailed: boolean;
  readonly signal: AbortSignal;
  readonly onResult: (result: MapResult) => void;
}

/** What passes by itself: the queue is full, or a server is being started again. */
const LATER: ReadonlySet<string> = new Set([
  'THROTTLED',
  'OVERLOADED',
  'NOT_DURABLE',
  'UNAVAILABLE',
  'UNREACHABLE',
]);
const LATER_MS = 1_000;
const LATER_TRIES_MAX = 120;

/** Whether there is nothing to do for an input with this result. */
export function isDone(known: MapResult | undefined, retriesFailed: boolean): boolean {
  return known !== undefined && (isGood(known) || !retriesFailed);
}

export async function runMap(
  inputs: AsyncIterator<InputLine, void>,
  results: ResultFile,
  options: MapOptions,
): Promise<void> {
  let failure: unknown;
  const lane = async (): Promise<void> => {
    while (failure === undefined && !options.signal.aborted) {
      const { done, value: input } = await inputs.next();
      if (done || !input) return;
      const known = results.known.get(input.line);
      if (isDone(known, options.retriesFailed)) continue;
      const result = await runOne(input, results.run, (known?.tries ?? 0) + 1, options);
      await results.add(result);
      options.onResult(result);
    }
  };
  const guarded = () =>
    lane().catch((error: unknown) => {
      failure ??= error;
    });
  await Promise.all(Array.from({ length: options.concurrency }, guarded));
  options.signal.throwIfAborted();
  if (failure !== undefined) throw failure;
}

async function runOne(
  input: InputLine,
  run: string,
  tries: number,
  { client, functionName, path, signal }: MapOptions,
): Promise<MapResult> {
  const { id } = await later(signal, () =>
    client.invokeAsync(functionName, {
      path,
      headers: { 'content-type': 'application/json' },
      body: input.text,
      idempotencyKey: `map-${run}-${input.line}-${tries}`,
      signal,
    }),
  );
  const record = await later(signal, () => client.waitFor(id, { signal }));
  const { state, reason, hasResult, attempts } = record;
  const last = attempts.at(-1);
  const answer = hasResult ? await later(signal, () => readAnswer(client, id, signal)) : {};
  return {
    line: input.line,
    input: input.digest,
    id,
    state,
    ...answer,
    ...(state === 'succeeded' ? {} : { error: [reason, last?.message].filter(Boolean).join(': ') }),
    tries,
  };
}

async function readAnswer(
  client: Client<HttpResponse>,
  id: string,
  signal: AbortSignal,
): Promise<Pick<MapResult, 'status' | 'result' | 'bytes'>> {
  const response = await client.result(id, { signal });
  const chunks: Buffer[] = [];
  for await (const chunk of response.body as AsyncIterable<Buffer>) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  const { status } = response;
  const text = body.toString('utf8');
  if (!Buffer.from(text).equals(body)) return { status, bytes: body.toString('base64') };
  try {
    return { status, result: JSON.parse(text) as unknown };
  } catch {
    return { status, result: text };
  }
}

async function later<Value>(signal: AbortSignal, ask: () => Promise<Value>): Promise<Value> {
  for (let tries = 1; ; tries++) {
    try {
      return await ask();
    } catch (error) {
      const isLater = error instanceof ClientError && LATER.has(error.code);
      if (!isLater || tries >= LATER_TRIES_MAX || signal.aborted) throw error;
      await delay(LATER_MS, undefined, { signal });
    }
  }
}
