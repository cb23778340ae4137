/**
 * What travels for one invocation. An envelope is
 *   u32le routeLength | route (JSON) | REQUEST payload (see frame.ts)
 * The route is for the runner; the rest is for the guest and is relayed without being parsed.
 */
import type { ErrorCode, FailureCause } from './errors.ts';
import { encodeHeadText } from './frame.ts';

/** Name and value, in order, duplicates kept; names lower case. */
export type HeaderList = readonly (readonly [string, string])[];

/** Head of a REQUEST frame: what the guest sees. */
export interface RequestHead {
  readonly id: string;
  readonly method: string;
  /** Absolute URL as the client used it, with the function's prefix taken off the path. */
  readonly url: string;
  readonly headers: HeaderList;
  /** Epoch milliseconds after which nobody waits for the answer. */
  readonly deadlineMs: number;
  readonly traceparent?: string;
  /** 1 for the first try. */
  readonly attempt?: number;
  /** Its steps are stored (see workflow/steps.ts). */
  readonly isDurable?: true;
}

/** Head of a RESPONSE frame. */
export interface ResponseHead {
  readonly status: number;
  readonly headers: HeaderList;
}

/** Payload of an ERROR frame. `stack` goes to the logs, never to a caller. */
export interface InvocationFailure {
  readonly cause: FailureCause;
  readonly message: string;
  readonly stack?: string;
  /** False only if the handler provably did not start. */
  readonly started: boolean;
}

/** For the runner. Short names: it is on every call. */
export interface Route {
  /** Version that this envelope is written in (versions.ts); absent: 1. */
  readonly v?: number;
  /** Invocation id. */
  readonly id: string;
  /** Deployment id. */
  readonly dep: string;
  /** Gateway that waits for the answer, and the stream number it gave this invocation on its links. */
  readonly gw: string;
  readonly stream: number;
  /** Epoch ms: do not start after this. */
  readonly startByMs: number;
  /** Epoch ms: whole duration. */
  readonly deadlineMs: number;
  /** More body follows over the link, after the runner granted credit. */
  readonly more: boolean;
  readonly enqueuedMs: number;
  readonly traceparent?: string;
  /** How many functions called each other to come here; absent for none. */
  readonly depth?: number;
  /** It may ask for its durable steps (see workflow/steps.ts). */
  readonly durable?: true;
  /** The leased slot to use; absent in envelopes, whose token stands in front of them. */
  readonly token?: string;
}

/**
 * What a runner puts in front of RESPONSE and ERROR payloads on a link: where the time went, in milliseconds.
 * Three f32le: waiting for a slot, starting a sandbox, running until the head of the answer.
 */
export interface RunnerTiming {
  readonly queueMs: number;
  readonly coldMs: number;
  readonly execMs: number;
}

export const TIMING_BYTES = 12;

export function encodeTiming(timing: RunnerTiming): Buffer {
  const bytes = Buffer.allocUnsafe(TIMING_BYTES);
  bytes.writeFloatLE(timing.queueMs, 0);
  bytes.writeFloatLE(timing.coldMs, 4);
  bytes.writeFloatLE(timing.execMs, 8);
  return bytes;
}

export function parseTiming(payload: Buffer): RunnerTiming {
  return { queueMs: payload.readFloatLE(0), coldMs: payload.readFloatLE(4), execMs: payload.readFloatLE(8) };
}

/** runner -> guest: LOAD. */
export interface LoadCommand {
  readonly functionName: string;
  readonly deployment: string;
  /** Absolute path inside the sandbox of the module to load. */
  readonly entry: string;
  readonly env: Readonly<Record<string, string>>;
  /** Files to write to /run/secrets before the function is loaded: name -> content. */
  readonly secrets?: Readonly<Record<string, string>>;
  readonly concurrency: number;
  readonly memoryBytes: number;
  /** Names under which the function may call others; absent for none. */
  readonly calls?: readonly string[];
}

/** guest -> runner: LOADED. */
export interface LoadResult {
  readonly ok: boolean;
  readonly loadMs: number;
  /** When not ok: what went wrong, for logs and for the deploy's error. */
  readonly message?: string;
  readonly stack?: string;
  /**
   * Present when the guest can make a code cache of the module, with CODE_CACHE: whether there was one beside it, and
   * whether V8 took it.
   */
  readonly codeCache?: CodeCacheUse;
}

export type CodeCacheUse = 'absent' | 'used' | 'rejected';

export interface GuestHello {
  readonly protocol: number;
  readonly role: 'guest';
  readonly runtime: string;
  readonly pid: number;
}

export interface GuestLog {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly message: string;
  readonly fields?: Readonly<Record<string, unknown>>;
  readonly atMs: number;
}

/** Head of a guest's CALL. */
export interface CallHead {
  /** Stream of the invocation in whose course it is made. */
  readonly parent: number;
  /** A name that the function's configuration declares in `calls`. */
  readonly target: string;
  readonly method: string;
  /** Path and query, beginning with "/". */
  readonly path: string;
  readonly headers: HeaderList;
}

/** Head of a runner's CALL. A gateway believes it: the runner knows who calls, and that it is declared. */
export interface RoutedCall extends Pick<CallHead, 'method' | 'path' | 'headers'> {
  readonly functionName: string;
  readonly caller: string;
  /** Invocation that makes the call. */
  readonly invocation: string;
  readonly depth: number;
  /** Epoch ms when the calling invocation ends, and the call with it. */
  readonly deadlineMs: number;
  readonly traceparent?: string;
}

/** Payload of CALL_ERROR. */
export interface CallFailure {
  readonly code: ErrorCode;
  readonly message: string;
}

export const GUEST_PROTOCOL = 1;

export function encodeEnvelope(route: Route, requestPayload: Buffer): Buffer {
  return encodeHeadText(JSON.stringify(route), requestPayload);
}

/** Envelopes come from our own gateways over Redis, so the JSON is not checked against a schema here. */
export function parseEnvelope(envelope: Buffer): { route: Route; payload: Buffer } {
  const routeBytes = envelope.readUInt32LE(0);
  const route = JSON.parse(envelope.toString('utf8', 4, 4 + routeBytes)) as Route;
  return { route, payload: envelope.subarray(4 + routeBytes) };
}
