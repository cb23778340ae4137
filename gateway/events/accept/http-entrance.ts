/**
 * `Prefer: respond-async` on an invocation's URL: reads the request, has it accepted, answers 202 with a Location.
 * With `wait=<seconds>` the answer is the function's own if it comes in that time (RFC 7240 §4.3).
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { isFinal, type AcceptedInvocation } from '../../../sdk/protocol/events.ts';
import { Header } from '../../../sdk/protocol/http.ts';
import type { Log } from '../../../infra/lib/log.ts';
import { classify } from '../../middleware/problem.ts';
import type { Target } from '../../invoke/request-head.ts';
import type { Acceptor, Receipt } from './acceptor.ts';
import type { EndWaiter } from './end-waiter.ts';
import { openCallee, writeProblem, type CalleeOptions } from './http-request.ts';
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
    if (!preference.isAsync) return false;
    void this.#accept(request, response, target, preference);
    return true;
  }

  async #accept(
    request: IncomingMessage,
    response: ServerResponse,
    target: Target,
    preference: Preference,
  ): Promise<void> {
    try {
      const receipt = await this.#take(request, target);
      if (await this.#tryAnswer(receipt, response, preference.waitMs)) return;
      writeReceipt(response, receipt);
    } catch (error) {
      const known = classify(error);
      if (known.row.fault === 'platform')
        this.#options.log.warn({ error: known }, 'an event was not accepted');
      writeProblem(response, known);
    }
  }

  async #take(request: IncomingMessage, target: Target): Promise<Receipt> {
    const { deployment, head } = await openCallee(this.#options, request, target);
    const options = parseEventHeaders(request.headers);
    const { traceparent } = request.headers;
    return this.#options.acceptor.accept({
      deployment,
      head,
      body: request,
      options,
      origin: 'http',
      traceparent: typeof traceparent === 'string' ? traceparent : undefined,
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
