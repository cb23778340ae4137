/**
 * A sandbox with a guest that speaks our protocol: starts it, waits for its HELLO, loads a function into it, and
 * carries frames.
 * Invariant: what the guest says is hostile. A frame that breaks the protocol kills the sandbox; nothing it sends can
 * name a stream that we did not open.
 * Deliberately absent: slots, keep-alive and Redis (instance.ts, pool.ts).
 */
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdir, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { FrameError, FrameType, parseJson, type Frame } from '../../sdk/protocol/frame.ts';
import { createId } from '../../sdk/protocol/ids.ts';
import {
  type CodeCacheUse,
  GUEST_PROTOCOL,
  type GuestHello,
  type LoadCommand,
  type LoadResult,
} from '../../sdk/protocol/invocation.ts';
import {
  CALLS_PER_SANDBOX_MAX,
  CODE_CACHE_BYTES_MAX,
  COLD_START_MS_MAX,
  OUTPUT_BYTES_PER_SECOND_MAX,
  STREAM_WINDOW_BYTES,
} from '../../sdk/protocol/limits.ts';
import { FrameConnection } from '../../infra/link/connection.ts';
import type { Sandbox, SandboxExit, SandboxHost, SandboxSpec } from '../../infra/sandbox/contract.ts';
import { readPaced } from '../log/paced-output.ts';
import { EarlyOutput } from './early-output.ts';
import type { Guest, GuestHandlers } from './guest.ts';

export type GuestSpec = Omit<SandboxSpec, 'id' | 'uid' | 'mounts'>;

const STDERR_TAIL_BYTES = 4096;
/** The first makes the guest rehearse, the others warm the way to it. Nobody who waits for a call would win by it. */
const WARM_ROUNDS = 3;
/** How long a process without a channel may live on. */
const CLOSED_MS_MAX = 250;
/** What one frame costs us besides its bytes, as bytes: 60,000 empty ones a second are the limit. */
const CHATTER_FRAME_BYTES = 256;
/** Beside what the windows of its calls allow. */
const UNSENT_BYTES_BASE = 16 * 1024 ** 2;

export class GuestSandbox implements Guest {
  readonly id: string;
  readonly folder: string;
  readonly startedMs = Date.now();
  /** From LOAD on: what it says before that is of no function. */
  readonly #early = new EarlyOutput(false);
  readonly #sandbox: Sandbox;
  readonly #connection: FrameConnection;
  readonly #hello = Promise.withResolvers<void>();
  #loaded: ((frame: Frame) => void) | undefined;
  #onPong: (() => void) | undefined;
  #codeCache: { readonly pieces: Buffer[]; bytes: number; end: () => void } | undefined;
  #exit: SandboxExit | undefined;
  #violation: string | undefined;
  #stderrTail = '';
  #isGreeted = false;
  #chatterWindowMs = 0;
  #chatterBytes = 0;
  #unsentBytesMax = UNSENT_BYTES_BASE;
  // Streams begin at a random place so that a guest cannot learn how many calls came before.
  #nextStream = randomInt(1, 2 ** 30);

  private constructor(id: string, folder: string, sandbox: Sandbox, socket: Socket) {
    this.id = id;
    this.folder = folder;
    this.#sandbox = sandbox;
    this.#connection = new FrameConnection(socket, {
      onFrame: (frame) => this.#onFrame(frame),
      onClose: (error) => {
        if (error instanceof FrameError) this.violate(error.message);
        // Usually its process is ending, and how it ends says why: out of memory, or its own exit code.
        else setTimeout(() => this.kill(), CLOSED_MS_MAX).unref();
      },
    });
    this.#collectOutput();
    void sandbox.exited.then((exit) => {
      this.#exit = exit;
      this.#connection.close();
      this.handlers?.onExit(exit);
      void rm(folder, { recursive: true, force: true });
    });
  }

  /**
   * Launches a sandbox and waits until its guest is ready for LOAD. With `background` nobody waits for it: until that
   * resolves, or it is ready, it gets what processor time other sandboxes leave. Rejects with COLD_START_FAILED.
   */
  static async start(
    host: SandboxHost,
    spec: GuestSpec,
    sandboxesDir: string,
    background?: Promise<void>,
  ): Promise<GuestSandbox> {
    const id = createId('sbx');
    const folder = join(sandboxesDir, id);
    const channel = join(folder, 'c');
    await mkdir(channel, { recursive: true, mode: 0o755 });
    await mkdir(join(folder, 'task'), { mode: 0o755 });
    const path = join(channel, 'channel.sock');
    const server = createServer();
    const ready = Promise.withResolvers<void>();
    let sandbox: Sandbox | undefined;
    try {
      server.listen(path);
      await once(server, 'listening');
      await chmod(path, 0o666);
      sandbox = await host.launch({
        ...spec,
        id,
        ...(background && { background: Promise.race([background, ready.promise]) }),
        mounts: [
          { source: channel, target: '/run/skiff' },
          { source: join(folder, 'task'), target: '/var/task', propagate: true },
        ],
      });
      const guest = await GuestSandbox.#greet(id, folder, sandbox, server, background ? WARM_ROUNDS : 0);
      ready.resolve();
      return guest;
    } catch (error) {
      sandbox?.kill();
      await rm(folder, { recursive: true, force: true });
      throw error;
    } finally {
      // The first connection is the guest's; nobody else in the sandbox gets a second one.
      server.close();
    }
  }

  /** `warmRounds`: PINGs, each answered before the next. */
  static async #greet(
    id: string,
    folder: string,
    sandbox: Sandbox,
    server: Server,
    warmRounds: number,
  ): Promise<GuestSandbox> {
    const gone = sandbox.exited.then((exit): never => {
      throw new SkiffError(
        'COLD_START_FAILED',
        `the sandbox ended before it was ready (${describeExit(exit)})`,
      );
    });
    const late = createTimeout(COLD_START_MS_MAX, 'the runtime did not become ready');
    try {
      const [socket] = (await Promise.race([once(server, 'connection'), gone, late.promise])) as [Socket];
      const guest = new GuestSandbox(id, folder, sandbox, socket);
      await Promise.race([guest.#hello.promise, gone, late.promise]);
      for (let round = 0; round < warmRounds; round++)
        await Promise.race([guest.#ping(), gone, late.promise]);
      return guest;
    } finally {
      late.cancel();
      gone.catch(() => {});
    }
  }

  #ping(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onPong = resolve;
    this.send(FrameType.PING, 0);
    return promise;
  }

  get handlers(): GuestHandlers | undefined {
    return this.#early.handlers;
  }

  set handlers(handlers: GuestHandlers | undefined) {
    this.#early.listen(handlers);
  }

  get pid(): number {
    return this.#sandbox.pid;
  }

  get sandbox(): Sandbox {
    return this.#sandbox;
  }

  get isGone(): boolean {
    return this.#exit !== undefined;
  }

  get stderrTail(): string {
    return this.#stderrTail;
  }

  /** What the guest did against the protocol, if it did. */
  get violation(): string | undefined {
    return this.#violation;
  }

  openStream(): number {
    this.#nextStream = this.#nextStream >= 0xffff_fffe ? 1 : this.#nextStream + 1;
    return this.#nextStream;
  }

  send(type: number, stream: number, payload?: Buffer): void {
    this.#connection.send(type, stream, payload);
    if (this.#connection.bufferedBytes > this.#unsentBytesMax) this.violate('it does not read its channel');
  }

  /**
   * A frame that moves no call on. A guest may send some of them; one that sends them without end is read as slowly as
   * its output is, so that it costs the runner no more than that.
   */
  chatter(frame: Frame): void {
    const now = Date.now();
    if (now - this.#chatterWindowMs >= 1_000) {
      this.#chatterWindowMs = now;
      this.#chatterBytes = 0;
    }
    this.#chatterBytes += frame.payload.length + CHATTER_FRAME_BYTES;
    if (this.#chatterBytes < OUTPUT_BYTES_PER_SECOND_MAX || this.#connection.socket.isPaused()) return;
    this.#connection.socket.pause();
    setTimeout(() => this.#connection.socket.resume(), this.#chatterWindowMs + 1_000 - now).unref();
  }

  /** Makes the stem this deployment's. Rejects with COLD_START_FAILED when the sandbox dies or takes too long. */
  async load(command: LoadCommand): Promise<LoadResult> {
    const late = createTimeout(COLD_START_MS_MAX, 'the function did not load');
    const answer = new Promise<LoadResult>((resolve, reject) => {
      this.#loaded = (frame) => {
        try {
          resolve(parseLoadResult(parseJson(frame.payload)));
        } catch (error) {
          reject(error as Error);
        }
      };
    });
    const gone = this.#sandbox.exited.then((exit): never => {
      const limit = `${Math.round(command.memoryBytes / 1024 ** 2)} MB`;
      const why = exit.outOfMemory ? `it used more than its memory limit of ${limit}` : describeExit(exit);
      const tail = this.#stderrTail.trim();
      throw new SkiffError(
        'COLD_START_FAILED',
        `the function ended while it was loading: ${why}${tail ? `\n${tail}` : ''}`,
      );
    });
    const calls = command.calls === undefined ? 0 : CALLS_PER_SANDBOX_MAX;
    this.#unsentBytesMax = UNSENT_BYTES_BASE + (command.concurrency * 2 + calls) * STREAM_WINDOW_BYTES;
    this.#early.open();
    this.#connection.sendJson(FrameType.LOAD, 0, command);
    try {
      return await Promise.race([answer, gone, late.promise]);
    } finally {
      late.cancel();
      gone.catch(() => {});
      this.#loaded = undefined;
    }
  }

  /**
   * What V8 has compiled of the function so far; only for a guest whose LOADED named `codeCache`, once at a time.
   * Undefined when the sandbox ends or does not answer in time. The bytes are the guest's word, to be given to the same
   * deployment alone.
   */
  async readCodeCache(msMax: number): Promise<Buffer | undefined> {
    const { promise, resolve } = Promise.withResolvers<Buffer | undefined>();
    const pieces: Buffer[] = [];
    // What comes after it was given up is still expected: only its end makes another one a violation.
    this.#codeCache = { pieces, bytes: 0, end: () => resolve(Buffer.concat(pieces)) };
    this.#connection.send(FrameType.CODE_CACHE, 0);
    const late = setTimeout(resolve, msMax, undefined);
    void this.exited.then(() => resolve(undefined));
    try {
      return await promise;
    } finally {
      clearTimeout(late);
    }
  }

  /** The guest broke the protocol: it is not ours any more. */
  violate(what: string): void {
    this.#violation ??= what;
    this.kill();
  }

  kill(): void {
    this.#sandbox.kill();
  }

  get exited(): Promise<SandboxExit> {
    return this.#sandbox.exited;
  }

  #onFrame(frame: Frame): void {
    switch (frame.type) {
      case FrameType.HELLO: {
        if (this.#isGreeted) return this.violate('a second HELLO');
        const hello = parseJson(frame.payload) as Partial<GuestHello> | null;
        if (hello?.protocol !== GUEST_PROTOCOL) this.violate(`guest speaks protocol ${hello?.protocol}`);
        else {
          this.#isGreeted = true;
          this.#hello.resolve();
        }
        return;
      }
      case FrameType.LOADED:
        if (!this.#loaded) return this.violate('LOADED without a LOAD');
        this.#loaded(frame);
        return;
      case FrameType.CODE_CACHE:
        return this.#onCodeCache(frame);
      case FrameType.LOG:
        this.chatter(frame);
        this.#early.onLog(frame.stream, frame.payload);
        return;
      case FrameType.RESPONSE:
      case FrameType.DATA:
      case FrameType.WINDOW:
      case FrameType.ERROR:
      case FrameType.SETTLED:
        this.handlers?.onStreamFrame(frame);
        return;
      case FrameType.CALL:
      case FrameType.CALL_DATA:
      case FrameType.CALL_WINDOW:
      case FrameType.CALL_CANCEL:
        this.handlers?.onCallFrame(frame);
        return;
      case FrameType.PONG:
        this.#onPong?.();
        this.chatter(frame);
        return;
      default:
        this.violate(`guest sent a frame of type ${frame.type}`);
    }
  }

  #onCodeCache(frame: Frame): void {
    const reading = this.#codeCache;
    if (!reading) return this.violate('a code cache that was not asked for');
    reading.bytes += frame.payload.length;
    if (reading.bytes > CODE_CACHE_BYTES_MAX)
      return this.violate(`a code cache of more than ${CODE_CACHE_BYTES_MAX} bytes`);
    // The frame's bytes are a view of what the socket read.
    reading.pieces.push(Buffer.from(frame.payload));
    if (!frame.isEnd) return;
    this.#codeCache = undefined;
    reading.end();
  }

  #collectOutput(): void {
    for (const source of ['stdout', 'stderr'] as const) {
      readPaced(this.#sandbox[source], (chunk) => {
        if (source === 'stderr')
          this.#stderrTail = (this.#stderrTail + chunk.toString('latin1')).slice(-STDERR_TAIL_BYTES);
        this.#early.onOutput(source, chunk);
      });
    }
  }
}

function parseLoadResult(value: unknown): LoadResult {
  const result = value as Partial<LoadResult> | null;
  if (typeof result?.ok !== 'boolean') throw new FrameError('LOADED without ok');
  return {
    ok: result.ok,
    loadMs: Number(result.loadMs) || 0,
    ...(isCodeCacheUse(result.codeCache) ? { codeCache: result.codeCache } : {}),
    ...(typeof result.message === 'string' ? { message: result.message.slice(0, 4096) } : {}),
    ...(typeof result.stack === 'string' ? { stack: result.stack.slice(0, 16_384) } : {}),
  };
}

function isCodeCacheUse(value: unknown): value is CodeCacheUse {
  return value === 'absent' || value === 'used' || value === 'rejected';
}

export function describeExit(exit: SandboxExit): string {
  if (exit.outOfMemory) return 'out of memory';
  if (exit.killed) return 'killed';
  return exit.code === undefined ? 'ended' : `exit code ${exit.code}`;
}

function createTimeout(ms: number, what: string): { promise: Promise<never>; cancel: () => void } {
  let timer: NodeJS.Timeout | undefined;
  const promise = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new SkiffError('COLD_START_FAILED', `${what} within ${ms / 1000} s`)),
      ms,
    );
  });
  promise.catch(() => {});
  return { promise, cancel: () => clearTimeout(timer) };
}
