/** What requests to functions that are not ordinary calls have in common: who is called, with what head, and refusals. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Deployment } from '../../../sdk/protocol/api.ts';
import { createProblem, SkiffError } from '../../../sdk/protocol/errors.ts';
import { Header } from '../../../sdk/protocol/http.ts';
import { CALL_DEPTH_MAX } from '../../../sdk/protocol/limits.ts';
import type { EventHead } from '../../../infra/events/record.ts';
import { buildHeaders, tryBuildUrl, type Target } from '../../invoke/request-head.ts';
import { chooseTarget, type Routes } from '../../invoke/routes.ts';
import type { Versions } from '../../invoke/versions.ts';
import { CONTROL_HEADERS } from './preferences.ts';

export interface CalleeOptions {
  readonly routes: Routes;
  readonly versions: Pick<Versions, 'get'>;
  /** May this request call a private function? Rejects with UNAUTHENTICATED or FORBIDDEN. */
  readonly authorize: (request: IncomingMessage, functionName: string) => Promise<void>;
}

export interface Callee {
  readonly deployment: Deployment;
  readonly head: EventHead;
}

export function notThere(name: string, version: string | undefined): SkiffError {
  return new SkiffError(
    'FUNCTION_NOT_FOUND',
    version === undefined
      ? `there is no function "${name}"; \`skiff ls\` lists those there are`
      : `function "${name}" has no deployment or alias "${version}"; \`skiff versions ${name}\` lists them`,
  );
}

/** @throws SkiffError for a function that is not there, that the caller may not call, or a request it cannot take */
export async function openCallee(
  { routes, versions, authorize }: CalleeOptions,
  request: IncomingMessage,
  { name, version, path }: Target,
): Promise<Callee> {
  const route = await (version === undefined ? routes.get(name) : versions.get(name, version));
  if (!route) throw notThere(name, version);
  const deployment = chooseTarget(route, Math.random());
  if (deployment.config.access === 'private') await authorize(request, name);
  assertAcceptable(request, deployment);
  return { deployment, head: createHead(request, path) };
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

function createHead(request: IncomingMessage, path: string): EventHead {
  const url = tryBuildUrl(request, path);
  if (!url) throw new SkiffError('BAD_REQUEST', 'the Host header is not a host name');
  const headers = buildHeaders(request, false).filter(([name]) => !CONTROL_HEADERS.has(name));
  return { method: request.method ?? 'GET', url, headers };
}

/** Answers with a problem document, or cuts an answer that has begun. */
export function writeProblem(response: ServerResponse, error: SkiffError): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const { status, cause } = error.row;
  const body = createProblem(error.code, error.message, { ...error.details });
  response.writeHead(status, {
    'content-type': 'application/problem+json',
    ...(cause === undefined ? {} : { [Header.cause]: cause }),
    ...(error.code === 'OUTCOME_UNKNOWN' ? { [Header.outcome]: 'unknown' } : {}),
    ...(status === 429 || status === 503 || status === 409 ? { 'retry-after': '1' } : {}),
    ...(status === 401 ? { 'www-authenticate': 'Bearer realm="skiff"' } : {}),
    ...(response.req.complete ? {} : { connection: 'close' }),
  });
  response.end(`${JSON.stringify(body)}\n`);
}
