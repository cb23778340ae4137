/** Header names and rules shared by gateway, guests and clients. Header names are lower case everywhere. */

/** RFC 9110 §7.6.1 and what proxies must not forward. */
export const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

export const Header = {
  invocationId: 'skiff-invocation-id',
  attempt: 'skiff-attempt',
  deployment: 'skiff-deployment',
  cause: 'skiff-cause',
  outcome: 'skiff-outcome',
  callDepth: 'skiff-call-depth',
  /** Name of the function that calls, set by the platform. */
  caller: 'skiff-caller',
  requestId: 'skiff-request-id',
  idempotencyKey: 'idempotency-key',
  serverTiming: 'server-timing',
  /** From a caller: calls with the same key stay on one deployment while an alias has two. A cookie of this name, too. */
  stickyKey: 'skiff-sticky-key',
  traceparent: 'traceparent',
  /** RFC 7240: `respond-async`, with `wait=<seconds>`. */
  prefer: 'prefer',
  /** Options of an asynchronous invocation. */
  delay: 'skiff-delay',
  maxAge: 'skiff-max-age',
  priority: 'skiff-priority',
  orderingKey: 'skiff-ordering-key',
  /** From a function: `false` says that repeating the event cannot help. */
  retry: 'skiff-retry',
} as const;

/**
 * Response headers a function may not set: they are the platform's word, or would give it power over its neighbours:
 * with service-worker-allowed the script of one could take over the pages of all functions of the same origin.
 */
export const PLATFORM_RESPONSE_HEADERS: ReadonlySet<string> = new Set([
  Header.invocationId,
  Header.deployment,
  Header.cause,
  Header.outcome,
  Header.requestId,
  'service-worker-allowed',
]);
