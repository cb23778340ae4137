/**
 * The invocation path: raw node:http in, Redis dispatch or a leased slot, frames back.
 * Invariant: every request that enters leaves with exactly one answer, at its deadline at the latest, and every
 * failure names one cause. Nothing here awaits on the hot path when the route is cached and a lease is at hand.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { SpanStatusCode } from '@opentelemetry/api';
import type { Deployment } from '../../sdk/protocol/api.ts';
import { SkiffError, toSkiffError, type FailureCause } from '../../sdk/protocol/errors.ts';
import { EMPTY, FrameType, type Frame } from '../../sdk/protocol/frame.ts';
import { Header } from '../../sdk/protocol/http.ts';
import { createId } from '../../sdk/protocol/ids.ts';
import type { RequestHead } from '../../sdk/protocol/invocation.ts';
import { StreamTable } from '../../sdk/protocol/stream-table.ts';
import { CALL_DEPTH_MAX, HEAD_BYTES_MAX, QUEUE_WAIT_MS_MAX } from '../../sdk/protocol/limits.ts';
import { runnerOf, type Dispatcher, type DispatchResult } from '../../infra/dispatch/dispatcher.ts';
import type { Log } from '../../infra/lib/log.ts';
import { isUnsent } from '../../infra/lib/unavailable.ts';
import { writeFailure } from './answer/answer.ts';
import { AnswerHeads } from './answer/answer-heads.ts';
import { buildHead, enclose, formatRoute, scalingOf, startCallSpan } from './call-head.ts';
import { Call, type CallOwner } from './call.ts';
import type { CallRequest, CallResponse, PlatformCall } from './caller.ts';
import { Estimates } from './estimates.ts';
import { Leases, type LeasedSlot } from './leases.ts';
import type { Links } from './links.ts';
import { Recovery } from './recovery.ts';
import { bodyKind, readInline } from './request-body.ts';
import { asksForMore, tryBuildUrl, tryParseTarget, type Target } from './request-head.ts';
import { assertServed, chooseTargetFor, isOpen, type Routes } from './routes.ts';
import type { Versions } from './versions.ts';

export interface InvokerOptions {
  readonly gateway: string;
  readonly dispatcher: Dispatcher;
  readonly routes: Routes;
  /** Of deployments and aliases that are named in the URL. */
  readonly versions?: Pick<Versions, 'get'>;
  readonly links: () => Links;
  readonly leases: boolean;
  readonly isTracing: boolean;
  readonly log: Log;
  /** May this request call a private function? Rejects with UNAUTHENTICATED or FORBIDDEN. */
  readonly authorize: (request: IncomingMessage, functionName: string) => Promise<void>;
  /** Takes over what is not an ordinary call: with `Prefer: respond-async` or an Idempotency-Key. False: it is one. */
  readonly accept?: (request: IncomingMessage, response: ServerResponse, target: Target) => boolean;
  readonly onCall?: (call: Call, cause: FailureCause | undefined) => void;
}

/** A refusal costs a round trip; so many in a row mean that something is wrong. */
const DISPATCHES_MAX = 20;
const TICK_MS = 20;
/** Characters of a head as JSON: the HTTP parser has counted its bytes, and escapes may take some more. */
const HEAD_TEXT_MAX = 4 * HEAD_BYTES_MAX;
/** Over a function's own time-out: then the runner has not told us in time. */
const GRACE_MS = 3_000;

export class Invoker implements CallOwner {
  readonly heads = new AnswerHeads();
  readonly #options: InvokerOptions;
  readonly #calls = new StreamTable<Call>();
  readonly #leases: Leases;
  readonly #recovery: Recovery;
  readonly #estimates = new Estimates();
  readonly #timer: NodeJS.Timeout;
  #nextStream = 0;

  constructor(options: InvokerOptions) {
    this.#options = options;
    this.#leases = new Leases(options.dispatcher, options.leases);
    this.#recovery = new Recovery({
      ...options,
      calls: () => this.#calls.values(),
      redispatch: (call) => this.redispatch(call),
      send: (call, type, payload) => this.send(call, type, payload),
      linkTo: (runner) => options.links().get(runner),
    });
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  get inFlight(): number {
    return this.#calls.size;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#leases.close();
  }

  /** `request` listener for URLs that begin with /f/. */
  handle(request: IncomingMessage, response: ServerResponse): void {
    const url = request.url ?? '/';
    const target = tryParseTarget(url);
    if (!target)
      return writeFailure(response, {
        code: 'FUNCTION_NOT_FOUND',
        detail: `no function can have the name in "${url.slice(0, 200)}"`,
      });
    if (asksForMore(request.headers) && this.#options.accept?.(request, response, target) === true) return;
    if (target.version !== undefined) return void this.#handleSlow(request, response, target);
    const route = this.#options.routes.peek(target.name);
    if (route && isOpen(route)) {
      this.#begin(request, response, target.path, chooseTargetFor(route, request));
    } else void this.#handleSlow(request, response, target);
  }

  async #handleSlow(
    request: IncomingMessage,
    response: ServerResponse,
    { name, version, path }: Target,
  ): Promise<void> {
    try {
      const route =
        version === undefined
          ? await this.#options.routes.get(name)
          : await this.#options.versions?.get(name, version);
      if (!route) {
        throw new SkiffError(
          'FUNCTION_NOT_FOUND',
          version === undefined
            ? `there is no function "${name}"; \`skiff ls\` lists those there are`
            : `function "${name}" has no deployment or alias "${version}"; \`skiff versions ${name}\` lists them`,
        );
      }
      const deployment = chooseTargetFor(route, request);
      if (deployment.config.access === 'private') await this.#options.authorize(request, name);
      assertServed(route);
      this.#begin(request, response, path, deployment);
    } catch (error) {
      const known =
        error instanceof SkiffError
          ? error
          : new SkiffError('UNAVAILABLE', 'the store of functions cannot be reached', { cause: error });
      if (known.code === 'UNAVAILABLE')
        this.#options.log.warn({ error: known }, 'a route could not be resolved');
      writeFailure(response, { code: known.code, detail: known.message });
    }
  }

  #begin(request: IncomingMessage, response: ServerResponse, path: string, deployment: Deployment): void {
    const url = tryBuildUrl(request, path);
    if (!url)
      return writeFailure(response, { code: 'BAD_REQUEST', detail: 'the Host header is not a host name' });
    const depth = Number(request.headers[Header.callDepth] ?? 0);
    if (depth > CALL_DEPTH_MAX) {
      return writeFailure(response, {
        code: 'LOOP_DETECTED',
        detail: `functions called each other ${depth} deep; the limit is ${CALL_DEPTH_MAX}`,
      });
    }
    const length = Number(request.headers['content-length'] ?? 0);
    const { config, functionName } = deployment;
    if (length > config.maxBody) {
      return writeFailure(response, {
        code: 'BODY_TOO_LARGE',
        detail: `the body has ${length} bytes; function "${functionName}" takes ${config.maxBody}`,
      });
    }
    const kind = bodyKind(request);
    const call = this.#open(createId('inv'), deployment, request, response, kind === 'stream');
    call.depth = depth;
    const head = buildHead(call, request, url);
    if (kind === 'inline') readInline(request, (body) => this.#send(call, head, body));
    else this.#send(call, head);
  }

  /** Runs a call of the platform's own; its answer goes to its `response`. */
  run(own: PlatformCall): Call {
    const { id, deployment, body, deadlineMs = Infinity, depth = 0, parent } = own;
    const call = this.#open(id, deployment, own.request, own.response, body === undefined);
    Object.assign(call, { deadlineMs, depth, parent, isDurable: own.head.isDurable === true });
    const endMs = Math.min(call.receivedMs + deployment.config.timeout, deadlineMs);
    this.#send(call, { ...own.head, id, deadlineMs: endMs }, body);
    return call;
  }

  #open(
    id: string,
    deployment: Deployment,
    request: CallRequest,
    response: CallResponse,
    isStreaming: boolean,
  ): Call {
    const receivedMs = Date.now();
    const span = this.#options.isTracing ? startCallSpan(request, deployment) : undefined;
    const call = new Call({
      id,
      stream: (this.#nextStream = this.#nextStream >= 0xffff_fffe ? 1 : this.#nextStream + 1),
      deployment,
      receivedMs,
      startByMs: receivedMs + QUEUE_WAIT_MS_MAX,
      request,
      response,
      isStreaming,
      span,
      owner: this,
    });
    this.#calls.set(call.stream, call);
    return call;
  }

  /** The first dispatch. */
  #send(call: Call, head: RequestHead, body: Buffer = EMPTY): void {
    if (call.isDone) return;
    const json = JSON.stringify(head);
    if (json.length > HEAD_TEXT_MAX) {
      return call.fail({
        code: 'HEAD_TOO_LARGE',
        detail: `headers and URL are larger than ${HEAD_BYTES_MAX} bytes`,
      });
    }
    const lease = this.#leases.begin(call.deployment.id);
    call.payload = { head: json, body };
    if (lease && this.#sendLeased(call, lease, json, body)) return;
    call.envelope = enclose(call, this.#options.gateway);
    void this.#dispatch(call);
  }

  #sendLeased(call: Call, { token, runner }: LeasedSlot, head: string, body: Buffer): boolean {
    const connection = this.#options.links().get(runner);
    if (!connection) {
      this.#leases.end(call.deployment.id, token, true);
      this.#leases.begin(call.deployment.id);
      return false;
    }
    call.isLeased = true;
    call.token = token;
    call.runner = runner;
    call.state = 'sent';
    call.dispatches++;
    const route = formatRoute(call, this.#options.gateway, token);
    connection.sendTexts(FrameType.REQUEST, call.stream, route, head, body);
    return true;
  }

  async #dispatch(call: Call): Promise<void> {
    const { deployment, envelope } = call;
    call.dispatches++;
    call.state = 'sending';
    try {
      const { unreachable } = this.#options.links();
      const timing = { startByMs: call.startByMs, ...this.#estimates.of(deployment.id) };
      const scaling = scalingOf(deployment);
      const result = await this.#options.dispatcher.dispatch(
        scaling,
        envelope as Buffer,
        timing,
        unreachable,
      );
      if (call.isDone) return this.#dropUnwanted(call, result);
      // The answer may have come over the link before Redis's reply did.
      if (call.state !== 'sending') return;
      if (call.wasRefused) return this.redispatch(call);
      if (result.kind === 'full') {
        const { functionName, config } = deployment;
        const detail = `${result.waiting} invocations of "${functionName}" are waiting, more than its ${config.max} sandboxes can begin in time; try again later or raise --max`;
        return call.fail({ code: 'THROTTLED', detail, outcome: 'not_started' }, 'throttled');
      }
      if (result.kind === 'queued') {
        call.state = 'queued';
        call.queuedMs = Date.now();
        call.givenToken = undefined;
        if (unreachable !== '') this.#recovery.noteStranded(call);
      } else {
        call.state = 'sent';
        call.sentMs = Date.now();
        call.token = result.token;
        call.runner = runnerOf(result.token);
        this.#options.links().ensure(call.runner, (runner) => this.#recovery.onLate(call, runner));
      }
    } catch (error) {
      if (call.isDone) return;
      this.#options.log.warn({ error: toSkiffError(error) }, 'dispatch failed');
      call.fail({
        code: 'UNAVAILABLE',
        detail: 'the queue cannot be reached; try again',
        // A command that was never written cannot have queued the call; one without a reply may have.
        outcome: isUnsent(error) ? 'not_started' : 'unknown',
      });
    }
  }

  /** The client went away while the call was being queued. */
  #dropUnwanted(call: Call, result: DispatchResult): void {
    if (result.kind === 'queued') return this.withdraw(call);
    if (result.kind !== 'sent') return;
    const runner = runnerOf(result.token);
    const reason = Buffer.from('{"reason":"client disconnected"}');
    this.#options.links().get(runner)?.send(FrameType.CANCEL, call.stream, reason);
  }

  /** From a link. */
  onFrame(runner: string, frame: Frame): void {
    const call = this.#calls.get(frame.stream);
    if (!call) return;
    if (call.runner !== runner) call.runner = runner;
    call.onFrame(frame);
  }

  /** A runner is gone: what was not started goes elsewhere, the rest has an unknown outcome. */
  onRunnerGone(runner: string): void {
    this.#leases.forgetRunner(runner);
    this.#recovery.onGone(runner);
  }

  onLinkReady(): void {
    this.#recovery.onReady();
  }

  send(call: Call, type: number, payload?: Buffer): boolean {
    const connection = call.runner === undefined ? undefined : this.#options.links().get(call.runner);
    connection?.send(type, call.stream, payload);
    return connection !== undefined;
  }

  redispatch(call: Call): void {
    if (call.dispatches >= DISPATCHES_MAX || Date.now() > call.startByMs) {
      return call.fail({
        code: 'OVERLOADED',
        detail: 'no runner took the invocation; it was not run',
        outcome: 'not_started',
      });
    }
    if (call.isLeased) {
      this.#leases.end(call.deployment.id, call.token, true);
      this.#leases.begin(call.deployment.id);
      call.isLeased = false;
      call.envelope = enclose(call, this.#options.gateway);
    }
    call.token = undefined;
    call.runner = undefined;
    call.wasRefused = false;
    void this.#dispatch(call);
  }

  withdraw(call: Call): void {
    this.#options.dispatcher
      .withdraw(call.deployment.id, call.startByMs, call.envelope as Buffer)
      .catch(() => {});
  }

  onDone(call: Call, cause: FailureCause | undefined): void {
    this.#calls.delete(call.stream);
    // A slot whose sandbox failed or was cut short is not ours to judge: its runner offers it anew.
    const isLost = cause !== undefined && cause !== 'handler_error';
    this.#leases.end(call.deployment.id, call.isLeased ? call.token : undefined, isLost || !call.timing);
    if (call.timing) this.#estimates.note(call.deployment.id, call.timing);
    if (call.span) {
      call.span.setAttributes({
        'http.response.status_code': call.response.statusCode,
        'faas.coldstart': (call.timing?.coldMs ?? 0) > 0,
      });
      if (cause) call.span.setStatus({ code: SpanStatusCode.ERROR, message: cause });
      call.span.end();
    }
    if (cause === 'platform') {
      const { code, detail } = call.failure ?? {};
      this.#options.log.warn(
        { invocation: call.id, function: call.deployment.functionName, runner: call.runner, code, detail },
        'a call failed and it was not its function',
      );
    }
    this.#options.onCall?.(call, cause);
  }

  #tick(): void {
    const now = Date.now();
    this.#recovery.tick(now);
    const waiting = new Map<string, Deployment>();
    for (const call of this.#calls.values()) {
      if (call.state === 'queued' && now > call.startByMs) {
        this.withdraw(call);
        const detail = `no slot of "${call.deployment.functionName}" became free within ${call.startByMs - call.receivedMs} ms; it was not run`;
        call.fail({ code: 'QUEUE_EXPIRED', detail, outcome: 'not_started' }, 'queue_expired');
      } else if (now > call.startByMs + call.deployment.config.timeout + GRACE_MS) {
        this.send(call, FrameType.CANCEL, Buffer.from('{"reason":"deadline"}'));
        call.fail({
          code: 'OUTCOME_UNKNOWN',
          detail: 'the runner did not answer by the deadline',
          outcome: 'unknown',
        });
      } else if (call.state === 'queued' && now - call.receivedMs > TICK_MS) {
        waiting.set(call.deployment.id, call.deployment);
      }
    }
    for (const deployment of waiting.values()) {
      this.#options.dispatcher.want({ ...scalingOf(deployment), min: 0 }).catch(() => {});
    }
  }
}
