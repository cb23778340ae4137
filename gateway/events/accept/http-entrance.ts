/**
 * `Prefer: respond-async` on an invocation's URL: reads the request, has it accepted, answers 202 with a Location.
 * With `wait=<seconds>` the answer is the function's own if it comes in that time (RFC 7240 §4.3). CloudEvents are taken
 * in all three modes; a batch needs no preference, as it has no other meaning.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { SkiffError, type ErrorCode } from '../../../sdk/protocol/errors.ts';
import { isFinal, type AcceptedInvocation, type EventReceipt } from '../../../sdk/protocol/events.ts';
import { Header } from '../../../sdk/protocol/http.ts';
import { API_BODY_BYTES_MAX } from '../../../sdk/protocol/limits.ts';
import type { Log } from '../../../infra/lib/log.ts';
import { classify } from '../../middleware/problem.ts';
import type { Target } from '../../invoke/request-head.ts';
import type { Acceptor, Receipt } from './acceptor.ts';
import {
  cloudEventKey,
  cloudEventMode,
  parseCloudEvents,
  type BinaryCloudEvent,
  type CloudEventMode,
} from './cloud-events.ts';
import type { EndWaiter } from './end-waiter.ts';
import { openCallee, writeProblem, type Callee, type CalleeOptions } from './http-request.ts';
import { parseEventHeaders, parsePrefer, type Preference } from './preferences.ts';

export interface HttpEntranceOptions extends CalleeOptions {
  readonly acceptor: Acceptor;
  readonly waiter: EndWaiter;
  /** Writes the stored result as the answer; false when there is none. */
  readonly writeResult: (id: string, response: ServerResponse) => Promise<boolean>;
  readonly log: Log;
}

export class HttpEntrance {
  readonly #options: HttpEntranceOptions;

  constructor(options: HttpEntranceOptions) {
    this.#options = options;
  }

  /** False when the request does not ask for it. */
  tryAccept(request: IncomingMessage, response: ServerResponse, target: Target): boolean {
    const preference = parsePrefer(request.headers.prefer);
    const mode = request.method === 'POST' ? cloudEventMode(request.headers) : undefined;
    if (!preference.isAsync && mode !== 'batch') return false;
    void this.#accept(request, response, target, preference, mode);
    return true;
  }

  async #accept(
    request: IncomingMessage,
    response: ServerResponse,
    target: Target,
    preference: Preference,
    mode: CloudEventMode | undefined,
  ): Promise<void> {
    try {
      if (mode === 'batch') return writeBatch(response, await this.#takeBatch(request, target));
      const receipt = await this.#take(request, target, mode);
      if (await this.#tryAnswer(receipt, response, preference.waitMs)) return;
      writeReceipt(response, receipt);
    } catch (error) {
      const known = classify(error);
      if (known.row.fault === 'platform')
        this.#options.log.warn({ error: known }, 'an event was not accepted');
      writeProblem(response, known);
    }
  }

  async #take(
    request: IncomingMessage,
    target: Target,
    mode: Exclude<CloudEventMode, 'batch'> | undefined,
  ): Promise<Receipt> {
    const callee = await openCallee(this.#options, request, target);
    if (mode === 'structured') {
      const [event] = parseCloudEvents(mode, await readWhole(request));
      return this.#acceptCloudEvent(request, target, callee, event as BinaryCloudEvent);
    }
    const options = parseEventHeaders(request.headers);
    const key = options.idempotencyKey ?? (mode ? cloudEventKey(request.headers) : undefined);
    return this.#options.acceptor.accept({
      ...callee,
      body: request,
      options: { ...options, ...(key === undefined ? {} : { idempotencyKey: key }) },
      ...describeOrigin(request, target, mode ? 'cloudevent' : 'http'),
    });
  }

  /** Each on its own: a receipt or an error for each, in order. */
  async #takeBatch(request: IncomingMessage, target: Target): Promise<EventReceipt[]> {
    const callee = await openCallee(this.#options, request, target);
    const events = parseCloudEvents('batch', await readWhole(request));
    return Promise.all(
      events.map((event) =>
        this.#acceptCloudEvent(request, target, callee, event).then(describeReceipt, (error: unknown) => {
          const { code, message } = classify(error);
          return { error: { code, message } };
        }),
      ),
    );
  }

  #acceptCloudEvent(
    request: IncomingMessage,
    target: Target,
    { deployment, head }: Callee,
    { headers, body }: BinaryCloudEvent,
  ): Promise<Receipt> {
    const own = Object.fromEntries(headers);
    const kept = head.headers.filter(([name]) => !name.startsWith('content-') && !name.startsWith('ce-'));
    return this.#options.acceptor.accept({
      deployment,
      head: { ...head, headers: [...kept, ...headers] },
      body,
      options: { ...parseEventHeaders(request.headers), idempotencyKey: cloudEventKey(own) },
      ...describeOrigin(request, target, 'cloudevent'),
    });
  }

  async #tryAnswer({ id }: Receipt, response: ServerResponse, waitMs: number): Promise<boolean> {
    if (waitMs === 0) return false;
    const left = new AbortController();
    response.once('close', () => left.abort());
    const state = await this.#options.waiter.wait(id, waitMs, left.signal);
    if (state === undefined || !isFinal(state) || response.destroyed) return false;
    return this.#options.writeResult(id, response);
  }
}

function describeOrigin(request: IncomingMessage, { version }: Target, origin: string) {
  const { traceparent } = request.headers;
  return { origin, version, traceparent: typeof traceparent === 'string' ? traceparent : undefined };
}

async function readWhole(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > API_BODY_BYTES_MAX) {
      const text = `CloudEvents as JSON have at most ${API_BODY_BYTES_MAX} bytes; larger ones come in binary mode`;
      throw new SkiffError('BODY_TOO_LARGE', text);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Senders repeat on 503: so it is only said when nothing was taken. */
function writeBatch(response: ServerResponse, events: readonly EventReceipt[]): void {
  const failed = events.flatMap((each) => ('error' in each ? [each.error] : []));
  const [first] = failed;
  if (first && failed.length === events.length)
    return writeProblem(response, new SkiffError(first.code as ErrorCode, first.message));
  response.writeHead(202, { 'content-type': 'application/json' });
  response.end(`${JSON.stringify({ events })}\n`);
}

export function describeReceipt({ id, state }: Receipt): AcceptedInvocation {
  return { id, state, location: `/v1/invocations/${id}` };
}

function writeReceipt(response: ServerResponse, receipt: Receipt): void {
  const accepted = describeReceipt(receipt);
  response.writeHead(202, {
    'content-type': 'application/json',
    location: accepted.location,
    'preference-applied': 'respond-async',
    [Header.invocationId]: receipt.id,
  });
  response.end(`${JSON.stringify(accepted)}\n`);
}
