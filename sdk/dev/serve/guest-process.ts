/**
 * One guest (sdk/guest) as a plain process of this user: started, given a function, spoken to in frames over a unix
 * socket, exactly as a runner speaks to one in a sandbox. It is not isolated: the function is this user.
 * Invariant: a process that breaks the protocol is killed, as in production, so that such a bug is seen here first.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { SkiffError } from '../../protocol/errors.ts';
import {
  encodeFrame,
  encodeJsonFrame,
  type Frame,
  FrameReader,
  FrameType,
  parseJson,
} from '../../protocol/frame.ts';
import {
  GUEST_PROTOCOL,
  type GuestHello,
  type GuestLog,
  type LoadCommand,
  type LoadResult,
} from '../../protocol/invocation.ts';
import { COLD_START_MS_MAX } from '../../protocol/limits.ts';

export interface GuestSettings {
  /** The bundled guest. */
  readonly program: string;
  readonly cwd: string;
  /** Where its socket is made; short, as socket paths end at 107 bytes. */
  readonly folder: string;
  readonly id: number;
  readonly memoryBytes: number;
  /** SIGUSR1 opens the inspector on it. */
  readonly inspectPort: number | undefined;
  /** The process's own environment; the function's comes with LOAD. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

export interface GuestExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** One invocation's ear. */
export interface StreamSink {
  onFrame(frame: Frame): void;
  onGone(exit: GuestExit): void;
}

export interface GuestListener {
  /** CALL, CALL_DATA, CALL_WINDOW and CALL_CANCEL. */
  onCallFrame(frame: Frame): void;
  /** An invocation is over, with all that it waited for. */
  onSettled(stream: number): void;
  onLog(log: GuestLog, stream: number): void;
  onOutput(source: 'stdout' | 'stderr', line: string): void;
}

const MB = 1024 ** 2;
/** As in production: the rest of the limit is for buffers, code and stacks. */
const HEAP_SHARE = 0.75;
const HEAP_MB_MIN = 32;
const STREAM_MAX = 0xffff_fffe;

export class GuestProcess {
  readonly exited: Promise<GuestExit>;
  listener: GuestListener | undefined;
  readonly #child: ChildProcess;
  readonly #socket: Socket;
  readonly #sinks = new Map<number, StreamSink>();
  readonly #hello = Promise.withResolvers<void>();
  readonly #loaded = Promise.withResolvers<LoadResult>();
  #lastStream = 0;
  #isGone = false;
  #wasStopped = false;

  private constructor(child: ChildProcess, exited: Promise<GuestExit>, socket: Socket) {
    this.#child = child;
    this.#socket = socket;
    this.exited = exited;
    const reader = new FrameReader((frame) => this.#onFrame(frame));
    socket.on('data', (bytes: Buffer) => {
      try {
        reader.push(bytes);
      } catch (error) {
        this.listener?.onOutput('stderr', `the guest broke the protocol: ${(error as Error).message}`);
        this.kill();
      }
    });
    socket.on('error', () => this.kill());
    for (const source of ['stdout', 'stderr'] as const) {
      const stream = child[source];
      if (stream)
        createInterface({ input: stream }).on('line', (line) => this.listener?.onOutput(source, line));
    }
    void exited.then((exit) => {
      this.#isGone = true;
      socket.destroy();
      for (const sink of this.#sinks.values()) sink.onGone(exit);
      this.#sinks.clear();
    });
  }

  /** Resolves when the guest waits for a function. @throws SkiffError COLD_START_FAILED */
  static async start(settings: GuestSettings): Promise<GuestProcess> {
    const path = join(settings.folder, `g${settings.id}.sock`);
    const server = createServer();
    server.listen(path);
    await once(server, 'listening');
    const heapMb = Math.max(HEAP_MB_MIN, Math.floor((settings.memoryBytes / MB) * HEAP_SHARE));
    const inspect =
      settings.inspectPort === undefined ? [] : [`--inspect-port=127.0.0.1:${settings.inspectPort}`];
    const child = spawn(process.execPath, [`--max-old-space-size=${heapMb}`, ...inspect, settings.program], {
      cwd: settings.cwd,
      env: { ...settings.env, SKIFF_CHANNEL: path },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const exited = Promise.race([
      once(child, 'exit').then(([code, signal]) => ({ code, signal }) as GuestExit),
      once(child, 'error').then((): GuestExit => ({ code: null, signal: null })),
    ]);
    try {
      const guest = await greet(server, exited, (socket) => new GuestProcess(child, exited, socket));
      await within(guest.#hello.promise, exited, 'the runtime did not become ready');
      return guest;
    } catch (error) {
      child.kill('SIGKILL');
      throw error;
    } finally {
      server.close();
    }
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  /** Ended because it was told to. */
  get wasStopped(): boolean {
    return this.#wasStopped;
  }

  /** @throws SkiffError COLD_START_FAILED when the process ends or is silent */
  async load(command: LoadCommand): Promise<LoadResult> {
    this.#write(encodeJsonFrame(FrameType.LOAD, 0, command));
    return within(this.#loaded.promise, this.exited, 'the function did not load');
  }

  openStream(sink: StreamSink): number {
    this.#lastStream = this.#lastStream >= STREAM_MAX ? 1 : this.#lastStream + 1;
    this.#sinks.set(this.#lastStream, sink);
    return this.#lastStream;
  }

  send(type: number, stream: number, payload?: Buffer): void {
    this.#write(encodeFrame(type, stream, payload));
  }

  openInspector(): void {
    this.#child.kill('SIGUSR1');
  }

  /** Ends when its invocations have; after `graceMs` in any case. */
  async stop(graceMs: number): Promise<void> {
    this.#wasStopped = true;
    const timer = setTimeout(() => this.kill(), graceMs);
    this.#child.kill('SIGTERM');
    await this.exited;
    clearTimeout(timer);
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  #write(bytes: Buffer): void {
    if (this.#isGone) return;
    // Frames of one turn leave in one write.
    if (this.#socket.writableCorked === 0) {
      this.#socket.cork();
      process.nextTick(() => this.#socket.uncork());
    }
    this.#socket.write(bytes);
  }

  #onFrame(frame: Frame): void {
    switch (frame.type) {
      case FrameType.HELLO: {
        const { protocol } = parseJson(frame.payload) as GuestHello;
        if (protocol === GUEST_PROTOCOL) this.#hello.resolve();
        else this.kill();
        return;
      }
      case FrameType.LOADED:
        return this.#loaded.resolve(parseJson(frame.payload) as LoadResult);
      case FrameType.LOG:
        return this.listener?.onLog(parseJson(frame.payload) as GuestLog, frame.stream);
      case FrameType.SETTLED:
        this.#sinks.delete(frame.stream);
        this.listener?.onSettled(frame.stream);
        return;
      case FrameType.CALL:
      case FrameType.CALL_DATA:
      case FrameType.CALL_WINDOW:
      case FrameType.CALL_CANCEL:
        return this.listener?.onCallFrame(frame);
      default:
        this.#sinks.get(frame.stream)?.onFrame(frame);
    }
  }
}

async function greet(
  server: Server,
  exited: Promise<GuestExit>,
  adopt: (socket: Socket) => GuestProcess,
): Promise<GuestProcess> {
  const connected = once(server, 'connection').then(([socket]) => adopt(socket as Socket));
  return within(connected, exited, 'the runtime did not become ready');
}

async function within<Result>(
  result: Promise<Result>,
  exited: Promise<GuestExit>,
  what: string,
): Promise<Result> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const text = `${what} within ${COLD_START_MS_MAX / 1000} s`;
    timer = setTimeout(() => reject(new SkiffError('COLD_START_FAILED', text)), COLD_START_MS_MAX);
  });
  const gone = exited.then((exit): never => {
    throw new SkiffError('COLD_START_FAILED', `the process ended first (${describeExit(exit)})`);
  });
  try {
    return await Promise.race([result, late, gone]);
  } finally {
    clearTimeout(timer);
    late.catch(() => {});
    gone.catch(() => {});
  }
}

export function describeExit({ code, signal }: GuestExit): string {
  if (signal !== null) return `killed by ${signal}`;
  return code === null ? 'it could not be started' : `exit code ${code}`;
}
