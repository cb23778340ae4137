/** A function's log, past and future. Invariant: following resumes after the last line seen, so no line comes twice. */
import type { LogLine } from '../protocol/api.ts';
import { ClientError, isCut } from './error.ts';
import { type ClientResponse, readJsonLines } from './fetch.ts';
import type { CallOptions } from './functions.ts';
import { wait } from './retry.ts';
import type { ApiRequest, Transport } from './transport.ts';

export interface LogOptions extends CallOptions {
  /** Go on with new lines until `signal` is aborted or you stop iterating. */
  readonly follow?: boolean | undefined;
  /** Only this many of the past lines. */
  readonly tail?: number | undefined;
  /** A `LogLine.cursor`. */
  readonly after?: string | undefined;
  /** Epoch milliseconds. */
  readonly sinceMs?: number | undefined;
  /** This level and worse. */
  readonly level?: LogLine['level'] | undefined;
  readonly invocation?: string | undefined;
  /** Only what replicas of this service logged. */
  readonly service?: string | undefined;
  /** Only what the function's network policy refused. */
  readonly egress?: boolean | undefined;
}

export interface Logs {
  logs(name: string, options?: LogOptions): AsyncGenerator<LogLine, void, undefined>;
}

const RECONNECT_MS = 500;
/** Without a line in between. A gateway that restarts is back within a few seconds. */
const RECONNECTS_MAX = 20;

export function createLogs(transport: Transport<ClientResponse>): Logs {
  return {
    async *logs(name, options = {}) {
      const { signal, follow = false } = options;
      let { after, tail } = options;
      let isOpened = false;
      for (let cuts = 0; ; cuts++) {
        try {
          const response = await transport.send(createRequest(name, { ...options, after, tail }));
          isOpened = true;
          for await (const line of readJsonLines<LogLine>(response.body)) {
            after = line.cursor;
            tail = undefined;
            cuts = 0;
            yield line;
          }
          if (!follow) return;
        } catch (error) {
          signal?.throwIfAborted();
          if (!follow || !isOpened || !isCut(error) || cuts >= RECONNECTS_MAX) throw error;
        }
        if (cuts >= RECONNECTS_MAX) throw cut(name);
        // Without a cursor yet, the past was shown (or was empty): only new lines are wanted.
        if (after === undefined) tail = 0;
        await wait(RECONNECT_MS, signal);
      }
    },
  };
}

function createRequest(name: string, options: LogOptions): ApiRequest {
  return {
    what: `logs of ${name}`,
    path: `/v1/functions/${encodeURIComponent(name)}/logs`,
    query: {
      follow: options.follow ? true : undefined,
      tail: options.tail,
      after: options.after,
      since: options.sinceMs,
      level: options.level,
      invocation: options.invocation,
      service: options.service,
      egress: options.egress ? true : undefined,
    },
    signal: options.signal,
  };
}

function cut(name: string): ClientError {
  return new ClientError({
    code: 'UNREACHABLE',
    status: 0,
    detail: `logs of ${name}: the connection was cut`,
  });
}
