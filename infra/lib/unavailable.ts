/**
 * Tells "a service we stand on is away" from our own bugs, by what ioredis, BullMQ, undici and sockets throw.
 * Deliberately absent: errors about a command itself (WRONGTYPE, NOSCRIPT), which are bugs.
 */
const SOCKET_CODES: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EPIPE',
  'ETIMEDOUT',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_SOCKET',
]);

const NAMES: ReadonlySet<string> = new Set([
  'MaxRetriesPerRequestError',
  'ConnectionClosedError',
  'ClusterAllFailedError',
]);

/** Texts of ioredis errors that carry no code or name of their own. */
const MESSAGES =
  /^(?:Connection is closed|Stream isn't writeable|Command timed out|Socket timeout|Connection is already closed|Cluster isn't ready|Too many Cluster redirections|Cluster is ended|None of startup nodes)/;

/** What a Redis server answers while it cannot serve: starting, full, read-only, unable to persist, failing over. */
const SERVER_STATES = /^(?:LOADING|OOM|READONLY|MISCONF|MASTERDOWN|CLUSTERDOWN|NOREPLICAS|TRYAGAIN|BUSY) /;

/** Looks at the error and its chain of causes. */
export function isServiceAway(error: unknown): boolean {
  for (let link: unknown = error, depth = 0; link instanceof Error && depth < 8; link = link.cause, depth++) {
    if (link instanceof AggregateError && link.errors.some(isServiceAway)) return true;
    const { code, syscall } = link as NodeJS.ErrnoException;
    if (code !== undefined && SOCKET_CODES.has(code)) return true;
    // A unix socket whose server has not started yet.
    if (code === 'ENOENT' && syscall === 'connect') return true;
    if (NAMES.has(link.name) || MESSAGES.test(link.message) || SERVER_STATES.test(link.message)) return true;
  }
  return false;
}

/** What ioredis says when it has not written the command. */
export function isUnsent(error: unknown): boolean {
  return (
    error instanceof Error && /isn't writeable|enableOfflineQueue|ECONNREFUSED|ENOENT/.test(error.message)
  );
}
