/**
 * One attempt of one invocation: through the same dispatch as a call over HTTP, with the record's request and a sink for
 * the answer. Invariant: it ends with one written end, or with none because its fence token is not the newest any more.
 */
import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import type { Deployment } from '../../../sdk/protocol/api.ts';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { Header } from '../../../sdk/protocol/http.ts';
import type { HeaderList } from '../../../sdk/protocol/invocation.ts';
import {
  DEAD_KEPT_MS,
  EVENT_LEASE_MS,
  INLINE_BODY_BYTES_MAX,
  RESULT_BYTES_MAX,
  STEP_SLEEP_MS_MAX,
} from '../../../sdk/protocol/limits.ts';
import { SUSPENDED_HEADER, SUSPENDED_STATUS } from '../../../sdk/protocol/workflow/steps.ts';
import type { Payloads } from '../../../infra/events/payloads.ts';
import type { BlobReference, EventHead } from '../../../infra/events/record.ts';
import type { AttemptEnd, Begun, EndReply } from '../../../infra/events/wire.ts';
import type { Log } from '../../../infra/lib/log.ts';
import { isServiceAway } from '../../../infra/lib/unavailable.ts';
import type { Call } from '../../invoke/call.ts';
import type { CallRequest, PlatformCall } from '../../invoke/caller.ts';
import { chooseTarget, type Routes } from '../../invoke/routes.ts';
import type { Versions } from '../../invoke/versions.ts';
import { GROUP_CONTENT_TYPE } from '../outbox/ended-group.ts';
import { AnswerSink, toStoredResult, type SunkAnswer } from './answer-sink.ts';
import { judge, outcomeOf, type Series, type Verdict } from './verdict.ts';

export interface AttemptParts {
  /** Writes an end; may be called again with the same one. */
  readonly finish: (end: AttemptEnd) => Promise<EndReply>;
  readonly payloads: Payloads;
  readonly routes: Routes;
  readonly versions: Pick<Versions, 'get'>;
  readonly run: (call: PlatformCall) => Call;
  /** The body of an event that has waited for others: how each of them ended. */
  readonly describeGroup: (ids: readonly string[]) => Promise<Buffer>;
  /** Is the link to this runner open? */
  readonly isLinked: (runner: string) => boolean;
  readonly log: Log;
}

/** After its lease somebody else may have it; until a little later an end is still worth offering. */
const FINISH_MS_MAX = 3 * EVENT_LEASE_MS;
const FINISH_RETRY_MS = 200;

export class Attempt {
  readonly id: string;
  readonly fence: number;
  readonly #parts: AttemptParts;
  readonly #begun: Begun;
  #sink: AnswerSink | undefined;
  #isCancelled = false;
  #maySleep = false;

  constructor(parts: AttemptParts, begun: Begun) {
    this.#parts = parts;
    this.#begun = begun;
    this.id = begun.id;
    this.fence = begun.fence;
  }

  /** It is not ours any more, or not wanted: its function is told to stop, and no end is written. */
  cancel(): void {
    this.#isCancelled = true;
    this.#sink?.cancel();
  }

  get isCancelled(): boolean {
    return this.#isCancelled;
  }

  /** Its steps have stored something to sleep or wait for. */
  noteSleep(): void {
    this.#maySleep = true;
  }

  /** Undefined when it was cancelled, or its end could not be written. */
  async run(takesNext: boolean): Promise<EndReply | undefined> {
    const end = await this.#execute().catch((error: unknown) => this.#describeTrouble(error));
    if (this.#isCancelled) return undefined;
    if (end.follows === 'wait') await this.#keepBody();
    return this.#finish({ ...end, takesNext });
  }

  async #execute(): Promise<AttemptEnd> {
    const { functionName, blob, body, origin } = this.#begun;
    const { version } = origin;
    const { routes, versions } = this.#parts;
    const route = await (version === undefined
      ? routes.get(functionName)
      : versions.get(functionName, version));
    if (!route) {
      return version === undefined
        ? this.#die('function_deleted', `there is no function "${functionName}" any more`)
        : this.#die('deployment_deleted', `function "${functionName}" has no "${version}" any more`);
    }
    const deployment = chooseTarget(route, Math.random());
    const group = origin.members && (await this.#parts.describeGroup(origin.members));
    const head = this.#createHead(group);
    const isLarge = group !== undefined && group.length > INLINE_BODY_BYTES_MAX;
    const stream = blob ? await this.#open(blob) : isLarge ? Readable.from([group]) : undefined;
    if (stream instanceof SkiffError) return this.#die('payload_unreadable', stream.message);
    const sink = new AnswerSink((body) => this.#putResult(body));
    this.#sink = sink;
    if (this.#isCancelled) sink.cancel();
    const request = createRequest(head, stream);
    const inline = stream ? undefined : (group ?? body);
    const call = this.#parts.run({ id: this.id, deployment, head, body: inline, request, response: sink });
    const answer = await sink.done;
    stream?.destroy();
    return this.#judge(call, deployment, answer);
  }

  #createHead(
    group: Buffer | undefined,
  ): EventHead & { attempt: number; isDurable: true; traceparent?: string } {
    const { number: attempt, head, origin } = this.#begun;
    const { traceparent } = origin;
    const own: HeaderList = [
      [Header.invocationId, this.id],
      [Header.attempt, String(attempt)],
      ...(traceparent === undefined ? [] : [[Header.traceparent, traceparent] as const]),
    ];
    return {
      ...head,
      headers: [...(group ? withBody(head.headers, group) : head.headers), ...own],
      attempt,
      isDurable: true,
      ...(traceparent === undefined ? {} : { traceparent }),
    };
  }

  /** A body that is gone or damaged will not come back; a registry that is away will. */
  async #open(blob: BlobReference): Promise<Readable | SkiffError> {
    try {
      return await this.#parts.payloads.open(blob);
    } catch (error) {
      if (error instanceof SkiffError && error.code !== 'UNAVAILABLE') return error;
      throw error;
    }
  }

  /** It may sleep for longer than the body was to be kept. */
  async #keepBody(): Promise<void> {
    const { blob } = this.#begun;
    const ms = STEP_SLEEP_MS_MAX + DEAD_KEPT_MS;
    if (blob)
      await this.#parts.payloads.keep(blob, ms).catch((error: unknown) => {
        this.#parts.log.warn({ error, invocation: this.id }, 'a body may be removed too early');
      });
  }

  #putResult(body: AsyncIterable<Uint8Array>): Promise<BlobReference> {
    return this.#parts.payloads.put(body, RESULT_BYTES_MAX, this.#series().policy.resultMs);
  }

  #series(): Series {
    const { policy, counted, number } = this.#begun;
    return { policy, counted, uncounted: Math.max(0, number - 1 - counted) };
  }

  #judge(call: Call, deployment: Deployment, answer: SunkAnswer): AttemptEnd {
    if (this.#maySleep && isSuspension(answer)) {
      return this.#createEnd({ outcome: 'suspended', counts: false, follows: 'wait' }, { detail: {} });
    }
    const failure = call.failure?.code ?? (answer.isBroken ? 'OUTCOME_UNKNOWN' : undefined);
    const outcome = outcomeOf(answer, failure);
    const verdict = judge(outcome, answer.headers, this.#series(), Date.now(), Math.random());
    const { runner } = call;
    const hasDied = outcome === 'lost' && runner !== undefined && !this.#parts.isLinked(runner);
    return this.#createEnd(verdict, {
      detail: {
        deployment: deployment.id,
        ...(answer.status > 0 && !answer.isBroken ? { status: answer.status } : {}),
        ...(runner === undefined ? {} : { runner }),
        ...(call.failure ? { message: call.failure.detail.slice(0, 1_000) } : {}),
      },
      // Every end of a runner's process is a death of its own, so that one that restarts is not taken for the same.
      ...(hasDied ? { died: `${runner}|${this.fence}` } : {}),
      ...(answer.status > 0 && !answer.isBroken ? { result: toStoredResult(answer) } : {}),
    });
  }

  /** A permanent failure: no try can succeed. */
  #die(reason: string, message: string): AttemptEnd {
    return this.#createEnd(
      { outcome: 'platform_error', counts: false, follows: 'dead', reason },
      { detail: { message } },
    );
  }

  /** Something we stand on failed before the function was called. */
  #describeTrouble(error: unknown): AttemptEnd {
    this.#parts.log.warn({ error, invocation: this.id }, 'an attempt could not be run');
    const verdict = judge('platform_error', [], this.#series(), Date.now(), Math.random());
    return this.#createEnd(verdict, { detail: { message: (error as Error).message.slice(0, 1_000) } });
  }

  #createEnd(verdict: Verdict, rest: Pick<AttemptEnd, 'detail' | 'result' | 'died'>): AttemptEnd {
    const { id, fence, number, startedMs } = this.#begun;
    return { id, fence, number, startedMs, ...verdict, ...rest };
  }

  /** Offered again while the store is away: with one token it is written once. */
  async #finish(end: AttemptEnd): Promise<EndReply | undefined> {
    const { finish, log } = this.#parts;
    const deadline = performance.now() + FINISH_MS_MAX;
    for (;;) {
      try {
        return await finish(end);
      } catch (error) {
        if (!isServiceAway(error)) throw error;
        if (performance.now() > deadline) {
          log.warn({ error, invocation: this.id }, 'an end could not be written; the attempt counts as lost');
          return undefined;
        }
        await delay(FINISH_RETRY_MS);
      }
    }
  }
}

function withBody(headers: HeaderList, body: Buffer): HeaderList {
  return [
    ...headers.filter(([name]) => name !== 'content-type' && name !== 'content-length'),
    ['content-type', GROUP_CONTENT_TYPE],
    ['content-length', String(body.length)],
  ];
}

function createRequest(
  { method, traceparent }: EventHead & { readonly traceparent?: string },
  stream: Readable | undefined,
): CallRequest {
  const source = stream ?? Readable.from([]);
  return Object.assign(source, { method, headers: traceparent === undefined ? {} : { traceparent } });
}

function isSuspension({ status, headers, isBroken }: SunkAnswer): boolean {
  return !isBroken && status === SUSPENDED_STATUS && headers.some(([name]) => name === SUSPENDED_HEADER);
}
