/** Plays the runner for a real guest process: a unix socket, a node child, and every frame that comes back. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import type { Readable } from 'node:stream';
import { join } from 'node:path';
import { buildSync } from 'esbuild';
import {
  encodeFrame,
  encodeHead,
  encodeJsonFrame,
  END,
  FrameReader,
  FrameType,
  parseHead,
  parseJson,
} from '../../../sdk/protocol/frame.ts';
import type {
  GuestLog,
  HeaderList,
  InvocationFailure,
  LoadResult,
  RequestHead,
  ResponseHead,
} from '../../../sdk/protocol/invocation.ts';
import { DATA_FRAME_BYTES_MAX } from '../../../sdk/protocol/limits.ts';
import { waitFor } from '../../helpers/wait.ts';

export interface Answer {
  head?: ResponseHead;
  /** Body bytes, unless the stream only counts them. */
  readonly chunks: Buffer[];
  bytes: number;
  frames: number;
  isEnded: boolean;
  isSettled: boolean;
  failure?: InvocationFailure;
  /** What the guest allows beyond the first window. */
  granted: number;
  readonly logs: GuestLog[];
  /** Set to leave the window unopened. */
  holdsCredit: boolean;
  keepsBytes: boolean;
}

/** A guest that runs: a child process here, or one in a sandbox. */
export interface GuestProcess {
  readonly pid?: number | undefined;
  readonly stdout: Readable | null;
  readonly stderr: Readable | null;
  readonly exit: Promise<number | string | undefined>;
  kill(signal: 'SIGKILL' | 'SIGTERM'): void;
}

/** Starts a guest that will connect to `folder`/channel.sock. Returns where it finds the function's module. */
export type StartGuest = (
  folder: string,
  file: string,
  options: GuestOptions,
) => Promise<{ process: GuestProcess; entry: string }>;

async function startChild(
  folder: string,
  file: string,
  options: GuestOptions,
): Promise<{ process: GuestProcess; entry: string }> {
  const child = spawn(process.execPath, [...(options.nodeArgs ?? []), bundleGuest()], {
    env: { SKIFF_CHANNEL: join(folder, 'channel.sock') },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exit = once(child, 'exit').then(([code, signal]) => (code as number | null) ?? (signal as string));
  const { pid, stdout, stderr } = child;
  return {
    process: { pid, stdout, stderr, exit, kill: (signal) => void child.kill(signal) },
    entry: join(folder, file),
  };
}

export interface GuestOptions {
  /** CommonJS source of the function; or an ES module when `isModule`. */
  readonly source: string;
  readonly isModule?: boolean;
  readonly env?: Readonly<Record<string, string>>;
  readonly nodeArgs?: readonly string[];
  /** A code cache that lies beside the module. */
  readonly codeCache?: Buffer;
  readonly memoryBytes?: number;
}

let bundlePath: string | undefined;

/** The agent as base images carry it: one CommonJS file. */
export function bundleGuest(): string {
  if (bundlePath) return bundlePath;
  const folder = mkdtempSync(join(tmpdir(), 'skiff-guest-bundle-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const outfile = join(folder, 'guest.cjs');
  const entryPoint = new URL('../../../sdk/guest/main.ts', import.meta.url).pathname;
  buildSync({
    entryPoints: [entryPoint],
    bundle: true,
    format: 'cjs',
    platform: 'node',
    target: 'node22',
    outfile,
  });
  bundlePath = outfile;
  return outfile;
}

export class GuestDriver {
  readonly child: GuestProcess;
  readonly folder: string;
  readonly entry: string;
  readonly answers = new Map<number, Answer>();
  readonly logs: GuestLog[] = [];
  readonly exit: Promise<number | string | undefined>;
  stderr = '';
  stdout = '';
  loaded: LoadResult | undefined;
  hello: unknown;
  /** Pieces of what it answered to CODE_CACHE; `isEnded` with the last. */
  readonly codeCache = { pieces: [] as Buffer[], isEnded: false };
  readonly #socket: Socket;
  #lastStream = 0;

  private constructor(child: GuestProcess, folder: string, entry: string, socket: Socket) {
    this.child = child;
    this.folder = folder;
    this.entry = entry;
    this.#socket = socket;
    this.exit = child.exit;
    child.stderr?.on('data', (text) => (this.stderr += text));
    child.stdout?.on('data', (text) => (this.stdout += text));
    const reader = new FrameReader((frame) => this.#onFrame(frame));
    socket.on('data', (bytes) => reader.push(bytes as Buffer));
    socket.on('error', () => {});
  }

  /** Starts a guest and waits for its HELLO. */
  static async start(options: GuestOptions, startGuest: StartGuest = startChild): Promise<GuestDriver> {
    const folder = mkdtempSync(join(tmpdir(), 'skiff-guest-'));
    chmodSync(folder, 0o755);
    const file = options.isModule ? 'index.mjs' : 'index.cjs';
    writeFileSync(join(folder, file), options.source);
    if (options.codeCache) writeFileSync(join(folder, `${file}.cache`), options.codeCache);
    const path = join(folder, 'channel.sock');
    const server = createServer();
    server.listen(path);
    await once(server, 'listening');
    chmodSync(path, 0o666);
    const connected = once(server, 'connection');
    const { process: child, entry } = await startGuest(folder, file, options);
    const [socket] = (await connected) as [Socket];
    server.close();
    const driver = new GuestDriver(child, folder, entry, socket);
    await waitFor('HELLO', () => driver.hello !== undefined);
    return driver;
  }

  /** Starts a guest with its function loaded. */
  static async load(options: GuestOptions, startGuest: StartGuest = startChild): Promise<GuestDriver> {
    const driver = await GuestDriver.start(options, startGuest);
    driver.sendLoad({ env: options.env ?? {}, memoryBytes: options.memoryBytes ?? 0 });
    await waitFor('LOADED', () => driver.loaded);
    return driver;
  }

  sendLoad(extra: object = {}): void {
    const command = {
      functionName: 'demo',
      deployment: 'dep-1',
      entry: this.entry,
      concurrency: 16,
      env: {},
      memoryBytes: 0,
    };
    this.write(encodeJsonFrame(FrameType.LOAD, 0, { ...command, ...extra }));
  }

  write(bytes: Buffer): void {
    this.#socket.write(bytes);
  }

  /** For tests that stop reading. */
  get socket(): Socket {
    return this.#socket;
  }

  open(
    request: Partial<RequestHead> & {
      body?: Buffer | string;
      isOpen?: boolean;
      holdsCredit?: boolean;
      keepsBytes?: boolean;
    } = {},
  ): { stream: number; answer: Answer } {
    const { body = '', isOpen = false, holdsCredit = false, keepsBytes = true, ...rest } = request;
    const stream = ++this.#lastStream;
    const answer: Answer = {
      chunks: [],
      bytes: 0,
      frames: 0,
      isEnded: false,
      isSettled: false,
      granted: 0,
      logs: [],
      holdsCredit,
      keepsBytes,
    };
    this.answers.set(stream, answer);
    const head: RequestHead = {
      id: `inv-${stream}`,
      method: 'GET',
      url: 'http://demo.test/',
      headers: [],
      deadlineMs: Date.now() + 30_000,
      ...rest,
    };
    const type = isOpen ? FrameType.REQUEST : FrameType.REQUEST | END;
    this.write(encodeFrame(type, stream, encodeHead(head, Buffer.from(body))));
    return { stream, answer };
  }

  /** One whole invocation. */
  async call(request: Parameters<GuestDriver['open']>[0] = {}): Promise<Answer & { text: string }> {
    const { answer } = this.open(request);
    await waitFor('SETTLED', () => answer.isSettled);
    return Object.assign(answer, { text: Buffer.concat(answer.chunks).toString() });
  }

  data(stream: number, bytes: Buffer, isEnd = false): void {
    this.write(encodeFrame(isEnd ? FrameType.DATA | END : FrameType.DATA, stream, bytes));
  }

  grant(stream: number, bytes: number): void {
    const payload = Buffer.alloc(4);
    payload.writeUInt32LE(bytes);
    this.write(encodeFrame(FrameType.WINDOW, stream, payload));
  }

  cancel(stream: number, reason: string): void {
    this.write(encodeJsonFrame(FrameType.CANCEL, stream, { reason }));
  }

  #onFrame(frame: { type: number; isEnd: boolean; stream: number; payload: Buffer }): void {
    if (frame.type === FrameType.HELLO) this.hello = parseJson(frame.payload);
    if (frame.type === FrameType.LOADED) this.loaded = parseJson(frame.payload) as LoadResult;
    if (frame.type === FrameType.CODE_CACHE) {
      this.codeCache.pieces.push(Buffer.from(frame.payload));
      this.codeCache.isEnded = frame.isEnd;
    }
    const answer = this.answers.get(frame.stream);
    if (frame.type === FrameType.LOG) {
      const log = parseJson(frame.payload) as GuestLog;
      this.logs.push(log);
      answer?.logs.push(log);
      return;
    }
    if (!answer) return;
    if (answer.isSettled) throw new Error(`frame ${frame.type} after SETTLED`);
    if (frame.type !== FrameType.SETTLED && frame.type !== FrameType.WINDOW && answer.isEnded)
      throw new Error(`frame ${frame.type} after END`);
    answer.frames++;
    if (frame.type === FrameType.WINDOW) answer.granted += frame.payload.readUInt32LE(0);
    if (frame.type === FrameType.SETTLED) answer.isSettled = true;
    if (frame.type === FrameType.ERROR) answer.failure = parseJson(frame.payload) as InvocationFailure;
    if (frame.type === FrameType.RESPONSE) {
      const { head, body } = parseHead(frame.payload);
      answer.head = head as ResponseHead;
      this.#take(frame.stream, answer, body);
    }
    if (frame.type === FrameType.DATA) this.#take(frame.stream, answer, frame.payload);
    if (frame.isEnd) answer.isEnded = true;
  }

  #take(stream: number, answer: Answer, bytes: Buffer): void {
    if (bytes.length > DATA_FRAME_BYTES_MAX) throw new Error(`${bytes.length} body bytes in one frame`);
    answer.bytes += bytes.length;
    if (answer.keepsBytes) answer.chunks.push(Buffer.from(bytes));
    if (!answer.holdsCredit && bytes.length > 0) this.grant(stream, bytes.length);
  }

  /** Resident memory of the guest in bytes. */
  residentBytes(): number {
    const text = readStatus(this.child.pid as number);
    return Number(/VmRSS:\s+(\d+)/.exec(text)?.[1] ?? 0) * 1024;
  }

  async close(): Promise<void> {
    this.#socket.destroy();
    this.child.kill('SIGKILL');
    await this.exit;
    rmSync(this.folder, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function readStatus(pid: number): string {
  return process.getBuiltinModule('node:fs').readFileSync(`/proc/${pid}/status`, 'utf8');
}

export function header(list: HeaderList | undefined, name: string): string[] {
  return (list ?? []).filter(([other]) => other === name).map(([, value]) => value);
}
