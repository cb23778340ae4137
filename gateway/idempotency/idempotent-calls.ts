/**
 * Synchronous calls with an Idempotency-Key: the first one runs, its answer is kept, and whoever brings the same key and
 * request gets that answer. Invariant: a call runs at most once for its key; when its gateway dies under it, the answer is
 * OUTCOME_UNKNOWN from then on and it is not run again. Here a client that leaves does not stop its function: it may come
 * back for the answer. Deliberately absent: streaming, since an answer that is kept is whole before it is sent.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import type { Deployment } from '../../sdk/protocol/api.ts';
import { createProblem, SkiffError, type ErrorCode } from '../../sdk/protocol/errors.ts';
import { Header } from '../../sdk/protocol/http.ts';
import { createId } from '../../sdk/protocol/ids.ts';
import {
  EVENT_LEASE_MS,
  IDEMPOTENCY_KEPT_MS,
  IDEMPOTENT_BODY_BYTES_MAX,
  INLINE_BODY_BYTES_MAX,
  QUEUE_WAIT_MS_MAX,
  RESULT_BYTES_MAX,
} from '../../sdk/protocol/limits.ts';
import type { Claim, IdempotencyRecords } from '../../infra/events/idempotency.ts';
import type { Payloads } from '../../infra/events/payloads.ts';
import type { EventHead } from '../../infra/events/record.ts';
import type { StoredResult } from '../../infra/events/store.ts';
import type { Log } from '../../infra/lib/log.ts';
import { fingerprintOf, scopeOf } from '../events/accept/acceptor.ts';
import type { EndWaiter } from '../events/accept/end-waiter.ts';
import { openCallee, writeProblem, type CalleeOptions } from '../events/accept/http-request.ts';
import { parseEventHeaders } from '../events/accept/preferences.ts';
import { AnswerSink, toStoredResult, type SunkAnswer } from '../events/consume/answer-sink.ts';
import { writeStored } from '../events/routes/result.ts';
import { digestOf } from '../events/accept/body.ts';
import type { Call } from '../invoke/call.ts';
import type { PlatformCall } from '../invoke/caller.ts';
import type { Target } from '../invoke/request-head.ts';
import { classify } from '../middleware/problem.ts';

export interface IdempotentCallsOptions extends CalleeOptions {
  readonly records: IdempotencyRecords;
  readonly waiter: EndWaiter;
  readonly payloads: Payloads;
  readonly run: (call: PlatformCall) => Call;
  readonly log: Log;
}

const RENEW_MS = EVENT_LEASE_MS / 3;
const KEEP_MS_MAX = 3_000;
const KEEP_RETRY_MS = 200;

interface Keyed {
  readonly deployment: Deployment;
  readonly head: EventHead;
  readonly body: Buffer;
  readonly scope: string;
  readonly fingerprint: string;
}

export class IdempotentCalls {
  readonly #options: IdempotentCallsOptions;

  constructor(options: IdempotentCallsOptions) {
    this.#options = options;
  }

  /** False when the request has no key. */
  tryCall(request: IncomingMessage, response: ServerResponse, target: Target): boolean {
    if (request.headers['idempotency-key'] === undefined) return false;
    void this.#handle(request, response, target).catch((error: unknown) => {
      const known = classify(error);
      if (known.row.fault === 'platform')
        this.#options.log.warn({ error: known }, 'a call with a key failed');
      writeProblem(response, known);
    });
    return true;
  }

  async #handle(request: IncomingMessage, response: ServerResponse, target: Target): Promise<void> {
    const keyed = await this.#read(request, target);
    const id = createId('inv');
    const { timeout } = keyed.deployment.config;
    const claim = await this.#claim(keyed, id, timeout + QUEUE_WAIT_MS_MAX);
    switch (claim.kind) {
      case 'new':
        return this.#answer(response, id, await this.#run(keyed, id), false);
      case 'done':
        return this.#answer(response, claim.id, claim.result, true);
      case 'other_request':
        throw new SkiffError(
          'IDEMPOTENCY_MISMATCH',
          `the idempotency key was used for another request, ${claim.id}; use a new key for a new request`,
        );
      case 'unknown':
        throw new SkiffError(
          'OUTCOME_UNKNOWN',
          `the gateway that ran ${claim.id} was lost; it may or may not have run`,
        );
      case 'running':
        throw new SkiffError(
          'IDEMPOTENCY_IN_PROGRESS',
          `${claim.id} with this key still runs; repeat the request to get its answer`,
        );
    }
  }

  async #read(request: IncomingMessage, target: Target): Promise<Keyed> {
    const { deployment, head } = await openCallee(this.#options, request, target);
    const { idempotencyKey = '' } = parseEventHeaders(request.headers);
    const body = await readWhole(request);
    return {
      deployment,
      head,
      body,
      scope: scopeOf(target.name, idempotencyKey),
      fingerprint: fingerprintOf(head, digestOf(body), 'sync'),
    };
  }

  /** Waits while another request with this key runs; a key that becomes free in the meantime is ours. */
  #claim({ scope, fingerprint }: Keyed, id: string, waitMs: number): Promise<Claim> {
    const { records, waiter } = this.#options;
    const claim = () => records.claim(scope, fingerprint, id, EVENT_LEASE_MS);
    return claim().then((first) =>
      first.kind === 'running'
        ? waiter.poll(first.id, waitMs, claim, ({ kind }) => kind !== 'running')
        : first,
    );
  }

  async #run({ deployment, head, body, scope }: Keyed, id: string): Promise<StoredResult> {
    const { records, payloads, log } = this.#options;
    const renewal = setInterval(() => {
      records
        .renew(scope, id, EVENT_LEASE_MS)
        .catch((error: unknown) => log.warn({ error, id }, 'key not renewed'));
    }, RENEW_MS);
    try {
      const sink = new AnswerSink((stream) => payloads.put(stream, RESULT_BYTES_MAX, IDEMPOTENCY_KEPT_MS));
      const isInline = body.length <= INLINE_BODY_BYTES_MAX;
      const source = Readable.from(isInline ? [] : [body], { objectMode: false });
      const request = Object.assign(source, { method: head.method, headers: {} });
      const inline = isInline ? body : undefined;
      const call = this.#options.run({ id, deployment, head, body: inline, request, response: sink });
      const answer = await sink.done;
      const result = toResult(call, answer, id);
      // Refused before it began: there is nothing to repeat.
      const hasRun = findHeader(answer, Header.outcome) !== 'not_started';
      await this.#keep(() => (hasRun ? records.finish(scope, id, result) : records.release(scope, id)), id);
      return result;
    } finally {
      clearInterval(renewal);
    }
  }

  /** The call has run: what it answered is given to the caller also when it cannot be kept. */
  async #keep(write: () => Promise<void>, id: string): Promise<void> {
    const deadline = performance.now() + KEEP_MS_MAX;
    for (;;) {
      try {
        return await write();
      } catch (error) {
        if (performance.now() < deadline) await delay(KEEP_RETRY_MS);
        else return this.#options.log.warn({ error, id }, 'an answer could not be kept for its key');
      }
    }
  }

  async #answer(
    response: ServerResponse,
    id: string,
    result: StoredResult,
    isRepeat: boolean,
  ): Promise<void> {
    await writeStored(this.#options, id, result, response, isRepeat ? [['idempotent-replayed', 'true']] : []);
  }
}

/** What is kept: the answer, or the failure that stands in its place. */
function toResult(call: Call, answer: SunkAnswer, id: string): StoredResult {
  if (answer.isBroken) {
    const { code, detail } = call.failure ?? {
      code: 'OUTCOME_UNKNOWN' as const,
      detail: 'the answer ended before its end',
    };
    return toFailure(code, detail, id);
  }
  if (!answer.isCut) return toStoredResult(answer);
  const detail = `the answer has ${answer.bytes} bytes; with an Idempotency-Key it can have ${RESULT_BYTES_MAX}`;
  return toFailure('HANDLER_ERROR', detail, id);
}

function toFailure(code: ErrorCode, detail: string, id: string): StoredResult {
  const problem = createProblem(code, detail, { invocationId: id });
  const body = Buffer.from(`${JSON.stringify(problem)}\n`);
  const headers: [string, string][] = [
    ['content-type', 'application/problem+json'],
    ...(problem.cause === undefined ? [] : [[Header.cause, problem.cause] as [string, string]]),
    ...(code === 'OUTCOME_UNKNOWN' ? [[Header.outcome, 'unknown'] as [string, string]] : []),
  ];
  return { head: { status: problem.status, headers, bytes: body.length }, body, blob: undefined };
}

function findHeader({ headers }: SunkAnswer, name: string): string | undefined {
  return headers.find(([known]) => known === name)?.[1];
}

/** @throws SkiffError BODY_TOO_LARGE */
async function readWhole(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > IDEMPOTENT_BODY_BYTES_MAX) {
      throw new SkiffError(
        'BODY_TOO_LARGE',
        `the body has more than ${IDEMPOTENT_BODY_BYTES_MAX} bytes, which is the limit with an Idempotency-Key`,
      );
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
