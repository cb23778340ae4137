/**
 * The guest's side of its channel: HELLO, LOAD once, then invocations, many at a time.
 * Invariant: anything the protocol does not allow (an unknown frame, a second LOAD, a stream number in use, a window
 * ignored) is a FrameError thrown out of `receive`; the process then ends, for its peer cannot be trusted or is not
 * the one it was built for. Deliberately absent: time limits (the runner's) and reconnecting (the socket is our life).
 */
import {
  type Frame,
  FrameError,
  FrameReader,
  FrameType,
  parseHead,
  parseJson,
} from '../../protocol/frame.ts';
import {
  type GuestHello,
  type GuestLog,
  GUEST_PROTOCOL,
  type LoadCommand,
  type LoadResult,
  type RequestHead,
} from '../../protocol/invocation.ts';
import { StreamTable } from '../../protocol/stream-table.ts';
import { FrameWriter, type WriteBytes } from './frame-writer.ts';
import { OutgoingCalls } from './outgoing.ts';
import { type Handler, Invocation, type InvocationHost } from './invocation.ts';
import type { LoadedFunction } from '../loader.ts';
import { encodeLog, type LogFields } from '../report/log-record.ts';
import { describeError } from '../report/stack-traces.ts';

export interface ConnectionOptions {
  readonly write: WriteBytes;
  /** Prepares the process (environment, title) for a function and returns its handler. */
  readonly load: (command: LoadCommand) => Promise<LoadedFunction>;
  readonly env: NodeJS.ProcessEnv;
  /** Written but not yet taken by the other side. */
  readonly unsentBytes: () => number;
  /** Prepares for what loading and serving will need, once; until it ends a PING has no answer. */
  readonly rehearse?: () => Promise<void>;
  /** The function could not be loaded; the answer has been written. */
  readonly onLoadFailed: () => void;
  /** The last invocation ended while draining. */
  readonly onDrained: () => void;
}

/** Log lines beyond this much unsent output are dropped: a peer that stopped reading must not fill our memory. */
const UNSENT_BYTES_MAX = 4 * 1024 * 1024;

const CODE_CACHE_PIECE_BYTES = 64 * 1024;

export class GuestConnection {
  readonly writer: FrameWriter;
  /** What the function asks of others. */
  readonly calls: OutgoingCalls;
  readonly #options: ConnectionOptions;
  readonly #reader: FrameReader;
  readonly #invocations = new StreamTable<Invocation>();
  #host: InvocationHost | undefined;
  #codeCache: LoadedFunction['codeCache'];
  #isLoading = false;
  #isDraining = false;
  #droppedLines = 0;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.writer = new FrameWriter(options.write);
    this.calls = new OutgoingCalls(this.writer);
    this.#reader = new FrameReader((frame) => this.#onFrame(frame));
  }

  get activeCount(): number {
    return this.#invocations.size;
  }

  hello(runtime: string, pid: number): void {
    const hello: GuestHello = { protocol: GUEST_PROTOCOL, role: 'guest', runtime, pid };
    this.writer.text(FrameType.HELLO, 0, false, JSON.stringify(hello));
  }

  /** Throws FrameError on anything the protocol does not allow. */
  receive(bytes: Buffer): void {
    this.#reader.push(bytes);
  }

  /** A line of an invocation, or of the process (stream 0). Never throws, whatever the fields are. */
  log(stream: number, level: GuestLog['level'], message: string, fields?: LogFields): void {
    if (this.#options.unsentBytes() > UNSENT_BYTES_MAX) {
      this.#droppedLines++;
      return;
    }
    if (this.#droppedLines > 0) {
      const notice = encodeLog('warn', `${this.#droppedLines} log lines were dropped`);
      this.#droppedLines = 0;
      this.writer.text(FrameType.LOG, 0, false, notice);
    }
    this.writer.text(FrameType.LOG, stream, false, encodeLog(level, message, fields));
  }

  /** Calls onDrained when no invocation runs, now or later. */
  drain(): void {
    this.#isDraining = true;
    if (this.#invocations.size === 0) this.#options.onDrained();
  }

  #onFrame(frame: Frame): void {
    switch (frame.type) {
      case FrameType.REQUEST:
        return this.#onRequest(frame);
      case FrameType.DATA:
        // An invocation that has ended may have body under way to it.
        return this.#invocations.get(frame.stream)?.pushBody(frame.payload, frame.isEnd);
      case FrameType.WINDOW:
        return this.#onWindow(frame);
      case FrameType.CANCEL:
        return this.#onCancel(frame);
      case FrameType.PING:
        return this.#onPing(frame);
      case FrameType.CALL_RESPONSE:
      case FrameType.CALL_DATA:
      case FrameType.CALL_WINDOW:
      case FrameType.CALL_ERROR:
        return this.calls.onFrame(frame);
      case FrameType.LOAD:
        return this.#onLoad(frame);
      case FrameType.CODE_CACHE:
        return this.#onCodeCache();
      case FrameType.HELLO:
        return;
      default:
        throw new FrameError(`a guest does not take frames of type ${frame.type}`);
    }
  }

  #onRequest(frame: Frame): void {
    if (!this.#host) throw new FrameError('REQUEST before the function was loaded');
    if (this.#invocations.has(frame.stream)) throw new FrameError(`stream ${frame.stream} is in use`);
    const { head, body } = parseHead(frame.payload);
    if (!isRequestHead(head)) throw new FrameError('REQUEST without id, method, url or headers');
    const invocation = new Invocation(this.#host, frame.stream, head, body, frame.isEnd);
    this.#invocations.set(frame.stream, invocation);
    invocation.start();
  }

  #onWindow(frame: Frame): void {
    if (frame.payload.length !== 4) throw new FrameError(`WINDOW of ${frame.payload.length} bytes; it has 4`);
    this.#invocations.get(frame.stream)?.grantCredit(frame.payload.readUInt32LE(0));
  }

  #onCancel(frame: Frame): void {
    const { reason } = parseJson(frame.payload) as { reason?: unknown };
    this.#invocations.get(frame.stream)?.cancel(typeof reason === 'string' ? reason : 'unknown');
  }

  #onPing({ stream, payload }: Frame): void {
    const { rehearse } = this.#options;
    if (this.#isLoading || !rehearse) return this.writer.bytes(FrameType.PONG, stream, false, payload);
    const bytes = Buffer.from(payload);
    void rehearse().then(() => this.writer.bytes(FrameType.PONG, stream, false, bytes));
  }

  #onLoad(frame: Frame): void {
    if (this.#isLoading) throw new FrameError('a second LOAD; a guest serves one deployment in its life');
    const command = parseJson(frame.payload);
    if (!isLoadCommand(command)) throw new FrameError('LOAD without functionName, deployment, entry or env');
    this.#isLoading = true;
    void this.#load(command);
  }

  async #load(command: LoadCommand): Promise<void> {
    const started = performance.now();
    try {
      this.calls.declare(command.calls ?? []);
      const { handler, codeCache } = await this.#options.load(command);
      this.serve(handler, command);
      this.#codeCache = codeCache;
      const loadMs = performance.now() - started;
      this.#answerLoad({ ok: true, loadMs, ...(codeCache ? { codeCache: codeCache.use } : {}) });
    } catch (error) {
      this.#answerLoad({ ok: false, loadMs: performance.now() - started, ...describeError(error) });
      this.#options.onLoadFailed();
    }
  }

  #answerLoad(result: LoadResult): void {
    this.writer.text(FrameType.LOADED, 0, false, JSON.stringify(result));
    this.writer.flush();
  }

  /** Blocks for as long as V8 takes to write it: some 10 ms for each MB of source. */
  #onCodeCache(): void {
    if (!this.#codeCache) throw new FrameError('CODE_CACHE of a function that has none');
    const bytes = this.#codeCache.create();
    for (let at = 0; at < bytes.length; at += CODE_CACHE_PIECE_BYTES) {
      const piece = bytes.subarray(at, at + CODE_CACHE_PIECE_BYTES);
      this.writer.bytes(FrameType.CODE_CACHE, 0, at + piece.length === bytes.length, piece);
    }
  }

  /** From here on requests are taken. */
  serve(handler: Handler, identity: { readonly functionName: string; readonly deployment: string }): void {
    const { functionName, deployment } = identity;
    this.#host = {
      writer: this.writer,
      handler,
      identity: { functionName, deployment, env: this.#options.env },
      calls: this.calls,
      log: (stream, level, message, fields) => this.log(stream, level, message, fields),
      settled: (stream) => {
        this.#invocations.delete(stream);
        if (this.#isDraining && this.#invocations.size === 0) this.#options.onDrained();
      },
    };
  }
}

function isRequestHead(head: unknown): head is RequestHead {
  const { id, method, url, headers, deadlineMs } = (head ?? {}) as Partial<RequestHead>;
  return (
    typeof id === 'string' &&
    typeof method === 'string' &&
    typeof url === 'string' &&
    Array.isArray(headers) &&
    typeof deadlineMs === 'number'
  );
}

function isLoadCommand(command: unknown): command is LoadCommand {
  const { functionName, deployment, entry, env } = (command ?? {}) as Partial<LoadCommand>;
  return (
    typeof functionName === 'string' &&
    typeof deployment === 'string' &&
    typeof entry === 'string' &&
    typeof env === 'object' &&
    env !== null
  );
}
