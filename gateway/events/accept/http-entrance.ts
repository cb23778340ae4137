/**
 * `Prefer: respond-async` on an invocation's URL: reads the request, has it accepted, answers 202 with a Location.
 * With `wait=<seconds>` the answer is the function's own if it comes in that time (RFC 7240 §4.3).
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createProblem, SkiffError } from '../../../sdk/protocol/errors.ts';
import { isFinal, type AcceptedInvocation } from '../../../sdk/protocol/events.ts';
import { Header } from '../../../sdk/protocol/http.ts';
import { CALL_DEPTH_MAX } from '../../../sdk/protocol/limits.ts';
import type { Deployment } from '../../../sdk/protocol/api.ts';
import type { EventHead } from '../../../infra/events/record.ts';
import type { Log } from '../../../infra/lib/log.ts';
import { classify } from '../../middleware/problem.ts';
import { buildHeaders, tryBuildUrl, type Target } from '../../invoke/request-head.ts';
import { chooseTarget, type Routes } from '../../invoke/routes.ts';
import type { Acceptor, Receipt } from './acceptor.ts';
import type { EndWaiter } from './end-waiter.ts';
import { CONTROL_HEADERS, parseEventHeaders, parsePrefer, type Preference } from './preferences.ts';

export interface HttpEntranceOptions {
  readonly acceptor: Acceptor;
  readonly waiter: EndWaiter;
  readonly routes: Routes;
  /** Writes the stored result as the answer; false when there is none. */
  readonly writeResult: (id: string, response: ServerResponse) => Promise<boolean>;
  readonly authorize: (request: IncomingMessage, functionName: string) => Promise<void>;
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

  async #take(request: IncomingMessage, { name, path }: Target): Promise<Receipt> {
    const { routes, authorize, acceptor } = this.#options;
    const route = await routes.get(name);
    if (!route) {
      throw new SkiffError(
        'FUNCTION_NOT_FOUND',
        `there is no function "${name}"; \`skiff ls\` lists those there are`,
      );
    }
    const deployment = chooseTarget(route, Math.random());
    if (deployment.config.access === 'private') await authorize(request, name);
    assertAcceptable(request, deployment);
    const options = parseEventHeaders(request.headers);
    const { traceparent } = request.headers;
    return acceptor.accept({
      deployment,
      head: createHead(request, path),
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

function assertAcceptable(request: IncomingMessage, { config, functionName }: Deployment): void {
  const depth = Number(request.headers[Header.callDepth] ?? 0);
  if (depth > CALL_DEPTH_MAX) {
    throw new SkiffError(
      'LOOP_DETECTED',
      `functions called each other ${depth} deep; the limit is ${CALL_DEPTH_MAX}`,
    );
  }
  const length = Number(request.headers['content-length'] ?? 0);
  if (length > config.maxBody) {
    throw new SkiffError(
      'BODY_TOO_LARGE',
      `the body has ${length} bytes; function "${functionName}" takes ${config.maxBody}`,
    );
  }
}

/** @throws SkiffError BAD_REQUEST */
function createHead(request: IncomingMessage, path: string): EventHead {
  const url = tryBuildUrl(request, path);
  if (!url) throw new SkiffError('BAD_REQUEST', 'the Host header is not a host name');
  const headers = buildHeaders(request, false).filter(([name]) => !CONTROL_HEADERS.has(name));
  return { method: request.method ?? 'GET', url, headers };
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

function writeProblem(response: ServerResponse, error: SkiffError): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const { status, cause } = error.row;
  const body = createProblem(error.code, error.message, { ...error.details });
  response.writeHead(status, {
    'content-type': 'application/problem+json',
    ...(cause === undefined ? {} : { [Header.cause]: cause }),
    ...(status === 429 || status === 503 ? { 'retry-after': '1' } : {}),
    ...(status === 401 ? { 'www-authenticate': 'Bearer realm="skiff"' } : {}),
    ...(response.req.complete ? {} : { connection: 'close' }),
  });
  response.end(`${JSON.stringify(body)}\n`);
}
