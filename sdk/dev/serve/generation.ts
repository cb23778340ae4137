/**
 * One built version of a function and the processes that serve it: one, or more when its concurrency is used up.
 * Invariant: a slot is given to one exchange at a time; a generation that is retired gives no more slots, and its
 * processes end when what they do has ended.
 */
import { rm } from 'node:fs/promises';
import { SkiffError } from '../../protocol/errors.ts';
import { QUEUE_WAIT_MS_MAX } from '../../protocol/limits.ts';
import type { GuestProcess } from './guest-process.ts';
import type { DevSettings } from '../source/settings.ts';

interface Instance {
  readonly guest: GuestProcess;
  active: number;
}

interface Waiting {
  give(instance: Instance): void;
  fail(error: Error): void;
}

/** More of them would only heat a laptop: the rest waits. */
const PROCESSES_MAX = 4;
const RETIRE_MS_MAX = 5_000;

export interface GenerationOptions {
  readonly settings: DevSettings;
  /** Its bundle; removed with it. */
  readonly folder: string;
  /** Starts another process that has loaded the function. */
  readonly launch: () => Promise<GuestProcess>;
  /** 1 under a debugger, which can follow one process only. */
  readonly processesMax?: number;
}

export class Generation {
  readonly settings: DevSettings;
  readonly #options: GenerationOptions;
  readonly #instances = new Set<Instance>();
  readonly #waiting: Waiting[] = [];
  readonly #processesMax: number;
  #starting = 0;
  #isRetired = false;

  constructor(options: GenerationOptions) {
    this.settings = options.settings;
    this.#options = options;
    this.#processesMax = Math.min(options.processesMax ?? PROCESSES_MAX, options.settings.config.max);
  }

  /** Adds a process that has loaded the function. */
  adopt(guest: GuestProcess): void {
    const instance: Instance = { guest, active: 0 };
    this.#instances.add(instance);
    void guest.exited.then(() => {
      this.#instances.delete(instance);
      this.#growIfNeeded();
    });
    this.#serveWaiting();
  }

  /** @throws SkiffError QUEUE_EXPIRED; COLD_START_FAILED when another process was needed and did not start */
  acquire(): Promise<Instance> {
    const free = this.#findFree();
    if (free) return Promise.resolve(take(free));
    const slot = this.#wait();
    this.#growIfNeeded();
    return slot;
  }

  release(instance: Instance): void {
    instance.active--;
    this.#serveWaiting();
  }

  /** Ends its processes; resolves when they have ended. With `isHard` at once. */
  async retire(isHard: boolean): Promise<void> {
    this.#isRetired = true;
    await Promise.all(
      [...this.#instances].map(async ({ guest }) => {
        await guest.stop(isHard ? 0 : RETIRE_MS_MAX);
      }),
    );
    await rm(this.#options.folder, { recursive: true, force: true });
  }

  #findFree(): Instance | undefined {
    const { concurrency } = this.settings.config;
    return [...this.#instances].find(({ guest, active }) => !guest.isGone && active < concurrency);
  }

  #growIfNeeded(): void {
    const isCovered = this.#waiting.length <= this.#starting * this.settings.config.concurrency;
    const hasRoom = this.#instances.size + this.#starting < this.#processesMax;
    if (!isCovered && hasRoom && !this.#isRetired) void this.#grow();
  }

  async #grow(): Promise<void> {
    this.#starting++;
    try {
      const guest = await this.#options.launch();
      this.#starting--;
      if (this.#isRetired) void guest.stop(0);
      else this.adopt(guest);
    } catch (error) {
      this.#starting--;
      this.#waiting[0]?.fail(error as Error);
    }
  }

  #wait(): Promise<Instance> {
    const slot = Promise.withResolvers<Instance>();
    const leave = (): void => {
      clearTimeout(timer);
      this.#waiting.splice(this.#waiting.indexOf(entry), 1);
    };
    const entry: Waiting = {
      give(instance) {
        leave();
        slot.resolve(take(instance));
      },
      fail(error) {
        leave();
        slot.reject(error);
      },
    };
    const timer = setTimeout(() => {
      const limit = `${this.#processesMax} processes with ${this.settings.config.concurrency} invocations each`;
      const text = `no slot became free within ${QUEUE_WAIT_MS_MAX / 1000} s; there are ${limit}`;
      entry.fail(new SkiffError('QUEUE_EXPIRED', text));
    }, QUEUE_WAIT_MS_MAX);
    this.#waiting.push(entry);
    return slot.promise;
  }

  #serveWaiting(): void {
    for (let free = this.#findFree(); free && this.#waiting.length > 0; free = this.#findFree()) {
      this.#waiting[0]?.give(free);
    }
  }
}

function take(instance: Instance): Instance {
  instance.active++;
  return instance;
}
