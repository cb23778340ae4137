/**
 * The one place where an error becomes an answer (RFC 9457).
 * Invariant: only a SkiffError's own message and details leave the process; everything else becomes INTERNAL with a
 * fixed text and the request id, or UNAVAILABLE when a service we stand on is away.
 */
import { isServiceAway } from '../../infra/lib/unavailable.ts';
import { ERRORS, SkiffError, createProblem, toSkiffError } from '../../sdk/protocol/errors.ts';
import { Header } from '../../sdk/protocol/http.ts';

/** Seconds. Redis and the registry are back within a second or two, or not for long. */
const RETRY_AFTER = '1';

export function classify(error: unknown): SkiffError {
  if (error instanceof SkiffError) return error;
  if (isServiceAway(error)) {
    return new SkiffError('UNAVAILABLE', ERRORS.UNAVAILABLE.summary, { cause: error });
  }
  return toSkiffError(error);
}

export function toProblemResponse(
  error: SkiffError,
  requestId: string,
  headers: Record<string, string> = {},
): Response {
  const problem = createProblem(error.code, error.message, {
    requestId,
    ...(error.details === undefined ? {} : { details: error.details }),
  });
  return new Response(`${JSON.stringify(problem)}\n`, {
    status: problem.status,
    headers: {
      'content-type': 'application/problem+json',
      [Header.requestId]: requestId,
      ...(problem.status === 401 ? { 'www-authenticate': 'Bearer realm="skiff"' } : {}),
      ...(problem.status === 503 || problem.status === 429 ? { 'retry-after': RETRY_AFTER } : {}),
      ...headers,
    },
  });
}

/** One line for /readyz, which is public: the innermost reason, without stacks or credentials. */
export function describeReason(error: unknown): string {
  let reason = error;
  while (reason instanceof Error && reason.cause instanceof Error) reason = reason.cause;
  return reason instanceof Error ? reason.message.slice(0, 200) : 'unknown';
}
