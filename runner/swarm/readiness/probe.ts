/**
 * One synthetic invocation through what a real one needs on this node: a request goes into the node's own inboxes and must
 * come out of them; then the base image out of the store becomes a sandbox, a function is attached and loaded, and answers.
 * Invariant: nothing is left of it, and nobody's sandbox ends for it.
 * Deliberately absent: the link to gateways, which each gateway watches for itself; when to probe (readiness.ts).
 */
import { randomUUID } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { EMPTY, encodeHead, END, FrameType, parseHead, type Frame } from '../../../sdk/protocol/frame.ts';
import type { RequestHead, ResponseHead } from '../../../sdk/protocol/invocation.ts';
import { MEMORY_BYTES_MIN, PIDS_MAX } from '../../../sdk/protocol/limits.ts';
import { baseImage } from '../../../infra/contract/jobs.ts';
import type { Cell, Cells } from '../../../infra/contract/cells.ts';
import { parseReference } from '../../../infra/oci/digest.ts';
import type { Registry } from '../../../infra/oci/registry.ts';
import type { LayerStore } from '../../../infra/oci/store.ts';
import { defaultRuntime, runtimeEnv } from '../../../infra/runtimes/catalog.ts';
import type { SandboxHost } from '../../../infra/sandbox/contract.ts';
import { GuestSandbox } from '../../pool/guest-sandbox.ts';
import type { Pool } from '../../pool/pool.ts';
import { attachLayer } from '../../pool/task-folder.ts';

export interface ProbeOptions {
  readonly id: string;
  readonly cells: Cells;
  readonly redis: Pick<Redis, 'rpush'>;
  readonly host: SandboxHost;
  readonly store: Pick<LayerStore, 'ensureRootfs' | 'pin' | 'unpin'>;
  readonly registry: Pick<Registry, 'headManifest'>;
  readonly pool: Pick<Pool, 'tryReserve'>;
  readonly sandboxesDir: string;
  /** Keeps what is loaded, and which image it was loaded on. */
  readonly dir: string;
}

/** Inbox entries that begin like this are a node's own. No token does. */
const ECHO_PREFIX = Buffer.from('probe ');
const ECHO_MS_MAX = 3_000;
const ANSWER_MS_MAX = 10_000;
/** Answers with what it is asked, so that an answer of another request is none. */
const SOURCE = `exports.default = (request) => new Response(new URL(request.url).pathname.slice(1));\n`;

export class Probe {
  readonly #options: ProbeOptions;
  readonly #echoes = new Map<string, () => void>();
  #reference: string | undefined;

  constructor(options: ProbeOptions) {
    this.#options = options;
  }

  /** Whether an entry of our own inbox is one of ours. */
  tryTake(entry: Buffer): boolean {
    if (entry.compare(ECHO_PREFIX, 0, ECHO_PREFIX.length, 0, ECHO_PREFIX.length) !== 0) return false;
    this.#echoes.get(entry.toString('latin1', ECHO_PREFIX.length))?.();
    return true;
  }

  /** False: there is no room for it. Rejects with what is broken. */
  async run(): Promise<boolean> {
    const release = this.#options.pool.tryReserve(MEMORY_BYTES_MIN);
    if (!release) return false;
    try {
      const reference = await this.#findBase();
      await Promise.all(
        this.#options.cells.all.map((cell) => within(ECHO_MS_MAX, 'the inbox', this.#echo(cell))),
      );
      await this.#invoke(reference);
      return true;
    } finally {
      release();
    }
  }

  /** The registry is asked until an image has worked here; from then on the store has it. */
  async #findBase(): Promise<string> {
    if (this.#reference !== undefined) return this.#reference;
    const { repository, tag } = baseImage(defaultRuntime('javascript').name);
    try {
      const digest = await this.#options.registry.headManifest(repository, tag);
      if (digest !== undefined) return `${repository}@${digest}`;
    } catch (error) {
      const known = await readFile(this.#referenceFile, 'utf8').catch(() => undefined);
      if (known !== undefined) return known;
      throw error;
    }
    throw new SkiffError('UNAVAILABLE', `the registry has no base image ${repository}:${tag} yet`);
  }

  get #referenceFile(): string {
    return join(this.#options.dir, 'base');
  }

  async #echo({ fast }: Cell): Promise<void> {
    const nonce = randomUUID();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#echoes.set(nonce, resolve);
    try {
      await this.#options.redis.rpush(fast.inbox(this.#options.id), `${ECHO_PREFIX.toString()}${nonce}`);
      await promise;
    } finally {
      this.#echoes.delete(nonce);
    }
  }

  async #invoke(reference: string): Promise<void> {
    const { host, store, sandboxesDir } = this.#options;
    const { repository, digest } = parseReference(reference);
    store.pin(repository, digest);
    let guest: GuestSandbox | undefined;
    try {
      const { lowerDirs } = await store.ensureRootfs(reference);
      const runtime = defaultRuntime('javascript');
      guest = await GuestSandbox.start(
        host,
        {
          lowerDirs,
          args: runtime.command(MEMORY_BYTES_MIN),
          env: runtimeEnv(runtime),
          cwd: '/var/task',
          memoryBytes: MEMORY_BYTES_MIN,
          cpu: 1,
          pidsMax: PIDS_MAX,
          tmpBytes: MEMORY_BYTES_MIN / 2,
          isolation: 'strict',
        },
        sandboxesDir,
      );
      await this.#load(guest);
      await within(ANSWER_MS_MAX, 'the function', ask(guest));
      if (this.#reference === reference) return;
      await writeFile(this.#referenceFile, reference);
      this.#reference = reference;
    } catch (error) {
      // It may have been another release's, and be gone.
      this.#reference = undefined;
      throw error;
    } finally {
      guest?.kill();
      await guest?.exited;
      store.unpin(repository, digest);
    }
  }

  async #load(guest: GuestSandbox): Promise<void> {
    const task = join(this.#options.dir, 'var', 'task');
    await mkdir(task, { recursive: true, mode: 0o755 });
    await writeFile(join(task, 'index.cjs'), SOURCE, { mode: 0o644 });
    await attachLayer(this.#options.dir, join(guest.folder, 'task'));
    const result = await guest.load({
      functionName: 'probe',
      deployment: 'probe',
      entry: '/var/task/index.cjs',
      env: {},
      concurrency: 1,
      memoryBytes: MEMORY_BYTES_MIN,
    });
    if (!result.ok) throw new SkiffError('COLD_START_FAILED', result.message ?? 'the function did not load');
  }
}

/** One request and its whole answer. */
function ask(guest: GuestSandbox): Promise<void> {
  const nonce = randomUUID();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const body: Buffer[] = [];
  let status = 0;
  const onAnswer = (frame: Frame): void => {
    if (frame.type === FrameType.RESPONSE) {
      const { head, body: first } = parseHead(frame.payload);
      ({ status } = head as ResponseHead);
      body.push(Buffer.from(first));
    } else if (frame.type === FrameType.DATA) body.push(Buffer.from(frame.payload));
    else if (frame.type === FrameType.ERROR) return reject(new Error(frame.payload.toString('utf8')));
    else return;
    if (!frame.isEnd) return;
    const text = Buffer.concat(body).toString('latin1');
    if (status === 200 && text === nonce) resolve();
    else reject(new Error(`the synthetic invocation was answered ${status} "${text.slice(0, 200)}"`));
  };
  guest.handlers = {
    onStreamFrame(frame) {
      try {
        onAnswer(frame);
      } catch (error) {
        reject(error as Error);
      }
    },
    onCallFrame: () => {},
    onLog: () => {},
    onOutput: () => {},
    onExit: () => reject(new Error('its sandbox ended')),
  };
  const head: RequestHead = {
    id: 'probe',
    method: 'GET',
    url: `http://probe/${nonce}`,
    headers: [],
    deadlineMs: Date.now() + ANSWER_MS_MAX,
  };
  guest.send(FrameType.REQUEST | END, guest.openStream(), encodeHead(head, EMPTY));
  return promise;
}

async function within(ms: number, what: string, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not answer within ${ms / 1000} s`)), ms);
  });
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
    work.catch(() => {});
  }
}
