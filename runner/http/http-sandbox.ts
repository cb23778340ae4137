/**
 * A sandbox of any image that listens on $PORT (the container contract of Cloud Run and Knative): starts it, waits
 * until it can be reached, and lets an instance speak to it in frames as to every guest.
 * Invariant: nothing the program sends is believed beyond HTTP; its connections are made from outside, so it needs no
 * network of its own and can reach nothing through them.
 * Deliberately absent: kept connections (a frozen program's idle timer would close them under a request).
 */
import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Pool } from 'undici';
import { END, FrameType } from '../../sdk/protocol/frame.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { createId } from '../../sdk/protocol/ids.ts';
import { COLD_START_MS_MAX, STOP_GRACE_MS } from '../../sdk/protocol/limits.ts';
import type { Sandbox, SandboxExit, SandboxHost, SandboxSpec } from '../../infra/sandbox/contract.ts';
import { readPaced } from '../log/paced-output.ts';
import { EarlyOutput } from '../pool/early-output.ts';
import type { Guest, GuestHandlers } from '../pool/guest.ts';
import { describeExit, type GuestSpec } from '../pool/guest-sandbox.ts';
import type { HealthCheck } from '../pool/health.ts';
import { HttpCall } from './http-call.ts';
import { InnerNetwork } from './inner-network.ts';

export interface HttpSandboxOptions {
  readonly port: number;
  readonly concurrency: number;
  readonly mounts: (id: string) => Promise<SandboxSpec['mounts']>;
  /** Path that answers below 500 when the program is ready; absent: a connection is enough. */
  readonly readyPath: string | undefined;
  /** Between the sandbox's start and its first request: what its network needs. */
  readonly prepare: (id: string) => Promise<void>;
}

const TAIL_BYTES = 4096;
/** A look costs 0.05 ms of processor time; what passes unseen is this part of what the start took. */
const POLL_SHARE = 0.04;
const POLL_MS_MIN = 1;
const POLL_MS_MAX = 100;

export class HttpSandbox implements Guest {
  readonly id: string;
  readonly sandbox: Sandbox;
  readonly #network: InnerNetwork;
  readonly #pool: Pool;
  readonly #calls = new Map<number, HttpCall>();
  readonly #readyPath: string | undefined;
  /** A call ended without an answer, and nothing came since. */
  #isSuspect = false;
  readonly #early = new EarlyOutput(true);
  #tail = '';
  #nextStream = randomInt(1, 2 ** 30);

  private constructor(id: string, sandbox: Sandbox, options: HttpSandboxOptions) {
    this.id = id;
    this.sandbox = sandbox;
    this.#network = new InnerNetwork(sandbox.pid);
    this.#readyPath = options.readyPath;
    this.#pool = new Pool(`http://127.0.0.1:${options.port}`, {
      // One more than calls can be: a cancelled one may still hold its connection for a moment.
      connections: options.concurrency + 1,
      pipelining: 0,
      headersTimeout: 0,
      bodyTimeout: 0,
      allowH2: false,
      connect: (_target, done) => {
        // Later: the client is not ready for an answer before its question returned.
        setImmediate(() => {
          try {
            done(null, this.#network.connect(options.port));
          } catch (error) {
            done(error as Error, null);
          }
        });
      },
    });
    for (const source of ['stdout', 'stderr'] as const)
      readPaced(sandbox[source], (chunk) => this.#onOutput(source, chunk));
    void sandbox.exited.then((exit) => {
      this.#calls.clear();
      this.handlers?.onExit(exit);
      void this.#pool.destroy().finally(() => this.#network.close());
    });
  }

  /** Rejects with COLD_START_FAILED when the program ends or does not listen in time. */
  static async start(host: SandboxHost, spec: GuestSpec, options: HttpSandboxOptions): Promise<HttpSandbox> {
    const id = createId('sbx');
    const sandbox = await host.launch({ ...spec, id, mounts: await options.mounts(id) });
    try {
      const guest = new HttpSandbox(id, sandbox, options);
      await options.prepare(id);
      await guest.#waitUntilReady(options);
      return guest;
    } catch (error) {
      sandbox.kill();
      // What it was given is somebody else's as soon as this fails.
      await sandbox.exited;
      throw error;
    }
  }

  get handlers(): GuestHandlers | undefined {
    return this.#early.handlers;
  }

  set handlers(handlers: GuestHandlers | undefined) {
    this.#early.listen(handlers);
  }

  get exited(): Promise<SandboxExit> {
    return this.sandbox.exited;
  }

  get stderrTail(): string {
    return this.#tail;
  }

  /** HTTP that is no HTTP fails its call, not the sandbox. */
  get violation(): undefined {
    return undefined;
  }

  get health(): HealthCheck {
    return {
      isWanted: this.#readyPath !== undefined,
      isSuspect: this.#isSuspect,
      ask: (msMax) => this.#ask(msMax),
    };
  }

  openStream(): number {
    this.#nextStream = this.#nextStream >= 0xffff_fffe ? 1 : this.#nextStream + 1;
    return this.#nextStream;
  }

  send(type: number, stream: number, payload: Buffer = Buffer.alloc(0)): void {
    const isEnd = (type & END) !== 0;
    const call = this.#calls.get(stream);
    switch (type & ~END) {
      case FrameType.REQUEST:
        return this.#open(stream).start(payload, isEnd);
      case FrameType.DATA:
        return call?.push(payload, isEnd);
      case FrameType.WINDOW:
        return call?.grant(payload.readUInt32LE(0));
      case FrameType.CANCEL:
        return call?.cancel('the caller went away or the time was over');
      default:
    }
  }

  chatter(): void {}

  violate(): void {
    this.kill();
  }

  kill(): void {
    this.sandbox.kill();
  }

  end(): void {
    this.sandbox.terminate(STOP_GRACE_MS);
  }

  #open(stream: number): HttpCall {
    const call = new HttpCall({
      dispatcher: this.#pool,
      emit: (type, payload = Buffer.alloc(0)) => {
        if (type === FrameType.RESPONSE) this.#isSuspect = false;
        this.handlers?.onStreamFrame({ type: type & ~END, isEnd: (type & END) !== 0, stream, payload });
      },
      onSettled: () => {
        this.#calls.delete(stream);
        if (!call.hasBegun) this.#isSuspect = true;
      },
    });
    this.#calls.set(stream, call);
    return call;
  }

  async #waitUntilReady({ port, readyPath }: HttpSandboxOptions): Promise<void> {
    const deadline = Date.now() + COLD_START_MS_MAX;
    let exit: SandboxExit | undefined;
    void this.exited.then((ended) => (exit = ended));
    const began = performance.now();
    for (;;) {
      if (exit) throw this.#startFailure(`it ended (${describeExit(exit)})`);
      if (await this.#isReady(port, readyPath)) return;
      if (Date.now() > deadline) {
        const what = readyPath === undefined ? `listen on $PORT (${port})` : `answer ${readyPath} below 500`;
        throw this.#startFailure(`it did not ${what} within ${COLD_START_MS_MAX / 1_000} s`);
      }
      const share = (performance.now() - began) * POLL_SHARE;
      await sleep(Math.min(POLL_MS_MAX, Math.max(POLL_MS_MIN, share)));
    }
  }

  async #isReady(port: number, readyPath: string | undefined): Promise<boolean> {
    if (!(await this.#network.isListening(port))) return false;
    if (readyPath === undefined) return true;
    try {
      const signal = AbortSignal.timeout(COLD_START_MS_MAX);
      const { statusCode, body } = await this.#pool.request({ path: readyPath, method: 'GET', signal });
      await body.dump();
      return statusCode < 500;
    } catch {
      return false;
    }
  }

  /** Without a path of its own it is asked for any answer at all, and what it says meanwhile to others counts. */
  async #ask(msMax: number): Promise<string | undefined> {
    const path = this.#readyPath ?? '/';
    this.#isSuspect = true;
    try {
      const signal = AbortSignal.timeout(msMax);
      const { statusCode, body } = await this.#pool.request({ path, method: 'GET', signal });
      await body.dump();
      // It does not hang, so it is given its time to recover.
      this.#isSuspect = false;
      const isRefusing = this.#readyPath !== undefined && statusCode >= 500;
      return isRefusing ? `GET ${path} was answered ${statusCode}` : undefined;
    } catch (error) {
      if (this.#readyPath === undefined && !this.#isSuspect) return undefined;
      const isLate = (error as Error).name === 'TimeoutError';
      const why = isLate ? `no answer within ${msMax / 1_000} s` : (error as Error).message;
      return `GET ${path}: ${why}`;
    }
  }

  #startFailure(why: string): SkiffError {
    const tail = this.#tail.trim();
    return new SkiffError(
      'COLD_START_FAILED',
      `the container did not start: ${why}${tail ? `\n${tail}` : ''}`,
    );
  }

  #onOutput(source: 'stdout' | 'stderr', chunk: Buffer): void {
    this.#tail = (this.#tail + chunk.toString('latin1')).slice(-TAIL_BYTES);
    this.#early.onOutput(source, chunk);
  }
}
