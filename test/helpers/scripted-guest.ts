/**
 * A guest of the test's own behind the runner's real code: the sandbox is a double (no container), the channel, the
 * frames, the instance and its calls are real. What the test writes is what a hostile process would.
 */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { FrameConnection } from '../../infra/link/connection.ts';
import type { Sandbox, SandboxExit, SandboxHost } from '../../infra/sandbox/contract.ts';
import { FunctionLog } from '../../runner/log/function-log.ts';
import { GuestSandbox, type GuestSpec } from '../../runner/pool/guest-sandbox.ts';
import { Instance } from '../../runner/pool/instance.ts';
import { Invocation, type InvocationEnd } from '../../runner/invoke/invocation.ts';
import type { Redis } from 'ioredis';
import { encodeHead, encodeJsonFrame, FrameReader, FrameType, type Frame } from '../../sdk/protocol/frame.ts';
import { GUEST_PROTOCOL } from '../../sdk/protocol/invocation.ts';
import { createDeployment } from './deployment.ts';

export const SPEC: GuestSpec = {
  lowerDirs: [],
  args: [],
  env: {},
  memoryBytes: 1,
  cpu: 1,
  pidsMax: 1,
  tmpBytes: 1,
  isolation: 'strict',
};

/** A sandbox that is nothing but a socket to the runner; `kill` ends it at once. */
function createDouble(id: string, socket: Socket): Sandbox {
  const exit = Promise.withResolvers<SandboxExit>();
  return {
    id,
    pid: process.pid,
    uid: 1_000_000,
    stdout: new PassThrough(),
    stderr: new PassThrough(),
    exited: exit.promise,
    setLimits: async () => {},
    freeze: async () => {},
    thaw: async () => {},
    usage: async () => ({ memoryBytes: 0, cpuMs: 0, pids: 0 }),
    terminate() {
      this.kill();
    },
    kill() {
      socket.destroy();
      exit.resolve({ outOfMemory: false, killed: true });
    },
  };
}

export interface ScriptedGuest {
  readonly guest: GuestSandbox;
  readonly instance: Instance;
  /** The guest's end of the channel. */
  readonly socket: Socket;
  /** Frames that the runner sent to the guest. */
  readonly received: { type: number; stream: number; payload: Buffer }[];
  /** Starts a call; its frames for the gateway collect in `answers`. */
  call(body?: Buffer): {
    invocation: Invocation;
    stream: number;
    answers: Frame[];
    ended: Promise<InvocationEnd>;
  };
}

export class GuestBench {
  readonly #folder: string;
  readonly #log: FunctionLog;
  readonly #servers: Server[] = [];
  readonly #sockets: Socket[] = [];

  private constructor(folder: string, redis: Redis) {
    this.#folder = folder;
    this.#log = new FunctionLog(redis);
  }

  static async open(redis: Redis): Promise<GuestBench> {
    return new GuestBench(await mkdtemp(join(tmpdir(), 'skg-')), redis);
  }

  /** Greeted and loaded. */
  async start(): Promise<ScriptedGuest> {
    const received: ScriptedGuest['received'] = [];
    const sockets: Socket[] = [];
    const host: SandboxHost = {
      allocateUid: () => 1_000_000,
      reap: async () => ({ containers: 0, mounts: 0, cgroups: 0 }),
      close: async () => {},
      launch: async (spec) => {
        const source = spec.mounts.find(({ target }) => target === '/run/skiff')?.source as string;
        const socket = connect(join(source, 'channel.sock'));
        sockets.push(socket);
        socket.on('error', () => {});
        socket.write(
          encodeJsonFrame(FrameType.HELLO, 0, {
            protocol: GUEST_PROTOCOL,
            role: 'guest',
            runtime: 'test',
            pid: 1,
          }),
        );
        const reader = new FrameReader(({ type, stream, payload }) => {
          received.push({ type, stream, payload: Buffer.from(payload) });
          if (type === FrameType.LOAD)
            socket.write(encodeJsonFrame(FrameType.LOADED, 0, { ok: true, loadMs: 1 }));
        });
        socket.on('data', (chunk: Buffer) => reader.push(chunk));
        return createDouble(spec.id, socket);
      },
    };
    const guest = await GuestSandbox.start(host, SPEC, this.#folder);
    const deployment = createDeployment('hostile', { config: { concurrency: 8 } });
    await guest.load({
      functionName: 'hostile',
      deployment: deployment.id,
      entry: '/var/task/index.cjs',
      env: {},
      concurrency: 8,
      memoryBytes: 1,
    });
    const owner = { runner: 'run', epoch: () => 'e', onDraining: () => {}, onGone: () => {} };
    const instance = new Instance(deployment, guest, 0, owner, this.#log);
    const link = await this.#openLink();
    let next = 1;
    return {
      guest,
      instance,
      socket: sockets[0] as Socket,
      received,
      call: (body = Buffer.alloc(0)) => {
        const gatewayStream = next++;
        const slot = instance.slots.find((one) => one.stream === 0);
        if (!slot) throw new Error('no slot is free');
        const ended = Promise.withResolvers<InvocationEnd>();
        const answers: Frame[] = [];
        link.onFrame(gatewayStream, (frame) =>
          answers.push({ ...frame, payload: Buffer.from(frame.payload) }),
        );
        const now = Date.now();
        const invocation = new Invocation({
          route: {
            id: `inv-${gatewayStream}`,
            dep: deployment.id,
            gw: 'gw',
            stream: gatewayStream,
            startByMs: now + 10_000,
            deadlineMs: now + 10_000,
            more: false,
            enqueuedMs: now,
          },
          link: link.connection,
          instance,
          slot,
          queueMs: 0,
          coldMs: 0,
          span: undefined,
          onEnd: (_invocation, end) => ended.resolve(end),
        });
        invocation.start(
          encodeHead({ id: 'x', method: 'GET', url: 'http://x/', headers: [], deadlineMs: now }, body),
          false,
        );
        return { invocation, stream: slot.stream, answers, ended: ended.promise };
      },
    };
  }

  /** A pair of sockets: the runner's end of a link, and a reader at the other. */
  async #openLink() {
    const server = createServer();
    this.#servers.push(server);
    const path = join(this.#folder, `link-${this.#servers.length}.sock`);
    server.listen(path);
    await once(server, 'listening');
    const client = connect(path);
    const [accepted] = (await once(server, 'connection')) as [Socket];
    server.close();
    this.#sockets.push(client, accepted);
    const listeners = new Map<number, (frame: Frame) => void>();
    const reader = new FrameReader((frame) => listeners.get(frame.stream)?.(frame));
    client.on('data', (chunk: Buffer) => reader.push(chunk));
    const connection = new FrameConnection(accepted, { onFrame: () => {}, onClose: () => {} });
    return {
      connection,
      onFrame: (stream: number, listener: (frame: Frame) => void) => void listeners.set(stream, listener),
    };
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await this.#log.flush();
    await rm(this.#folder, { recursive: true, force: true });
  }
}
