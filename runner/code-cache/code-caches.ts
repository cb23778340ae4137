/**
 * V8 code caches of functions: made by a sandbox of the function, kept on this host, and given
 * to the next sandboxes of the same deployment as `<entry>.cache`.
 *
 * Invariants: the bytes are a stranger's. V8 believes a cache once its header fits, so whoever writes one decides what
 * runs; it is therefore given to no other deployment than the one whose sandbox made it, by a file that no sandbox can
 * write, and what it could do in there the function can do anyway. V8 refuses caches of another version or other flags:
 * then the function loads without, and the cache is made anew. A cache lies beside the function's layer and is evicted
 * with it. What is damaged on disk is noticed before a sandbox sees it.
 * Deliberately absent: caches in images. Two processes never make the same bytes (the hash seed is in them), and equal
 * sources must give equal images. ES modules have none either: V8's interface for them is not stable in Node.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import { z } from 'zod';
import type { Log } from '../../infra/lib/log.ts';
import type { LayerStore } from '../../infra/oci/store.ts';
import type { Deployment } from '../../sdk/protocol/api.ts';
import type { LoadResult } from '../../sdk/protocol/invocation.ts';
import type { Instance } from '../pool/instance.ts';
import type { GuestSandbox } from '../pool/guest-sandbox.ts';
import { addSample, hasLost, isWorthMaking, median } from './worth.ts';

export interface CodeCachesOptions {
  readonly store: Pick<LayerStore, 'annexOf' | 'countAnnex'>;
  readonly log: Log;
}

const KeptState = z.object({
  plainMs: z.array(z.number()),
  cachedMs: z.array(z.number()),
  /** Of the cache's file, when there is one. */
  sha256: z.string().optional(),
  /** It was made after calls, and so has what they compiled as well. */
  isTrained: z.boolean(),
  refusals: z.number(),
  /** It was measured and does not win, or V8 does not take it: not tried again. */
  isGivenUp: z.boolean(),
});
type KeptState = z.output<typeof KeptState>;

interface State extends KeptState {
  /** Its file was compared with `sha256` in this process's life. */
  isChecked: boolean;
  /** A sandbox is being watched for a quiet moment. */
  isFollowed: boolean;
}

type CachedGuest = Pick<GuestSandbox, 'readCodeCache'>;

const STATES_KEPT = 10_000;
/** Deployments of one layer that have a cache; more are not of one function that somebody uses. */
const CACHES_PER_LAYER_MAX = 4;
const LOOK_MS = 250;
/** Looks for a first call to end before what was compiled so far has to do. */
const LOOKS_MAX = 240;
/** A sandbox that is never quiet is asked all the same after as many looks: it costs one call some milliseconds. */
const BUSY_LOOKS_MAX = 20;
const READ_MS_MAX = 5_000;
/** Its memory is wanted back. */
const LAST_READ_MS_MAX = 500;
const REFUSALS_MAX = 2;
/** Enough to judge by; later ones are kept in memory alone. */
const SAVED_SAMPLES = 3;

export class CodeCaches {
  readonly #options: CodeCachesOptions;
  readonly #states = new LRUCache<string, State>({ max: STATES_KEPT });
  /** One at a time is held in memory. */
  #isMaking = false;

  constructor(options: CodeCachesOptions) {
    this.#options = options;
  }

  /** File of the deployment's cache, whole and as it was made. Its layer must be in the store. */
  async tryFind(deployment: Deployment): Promise<string | undefined> {
    const files = this.#filesOf(deployment);
    if (!files) return undefined;
    const state = await this.#stateOf(deployment);
    if (state.sha256 === undefined || state.isGivenUp) return undefined;
    if (state.isChecked) return files.cache;
    const bytes = await readFile(files.cache).catch(() => Buffer.alloc(0));
    state.isChecked = hashOf(bytes) === state.sha256;
    if (state.isChecked) return files.cache;
    await this.#drop(deployment, state);
    return undefined;
  }

  /** A sandbox has loaded the function: notes what that took, and has a cache made if it is worth it. */
  onLoaded(instance: Instance, guest: CachedGuest, result: LoadResult): void {
    if (result.codeCache === undefined) return;
    this.#onLoaded(instance, guest, result).catch((error: unknown) =>
      this.#options.log.warn({ error, deployment: instance.deployment.id }, 'a code cache could not be kept'),
    );
  }

  async #onLoaded(instance: Instance, guest: CachedGuest, { loadMs, codeCache }: LoadResult): Promise<void> {
    const { deployment } = instance;
    const state = await this.#stateOf(deployment);
    if (state.isGivenUp) return;
    if (codeCache === 'used') state.cachedMs = addSample(state.cachedMs, loadMs);
    else state.plainMs = addSample(state.plainMs, loadMs);
    if (codeCache === 'rejected' && state.sha256 !== undefined) {
      state.refusals++;
      state.isGivenUp = state.refusals >= REFUSALS_MAX;
      await this.#drop(deployment, state);
      this.#say(deployment, state, 'V8 refused a code cache');
    } else if (hasLost(state)) {
      state.isGivenUp = true;
      await this.#drop(deployment, state);
      this.#say(deployment, state, 'a code cache does not win and is not used any more');
    } else if (codeCache === 'used' && state.cachedMs.length <= SAVED_SAMPLES)
      await this.#save(deployment, state);
    if (!isWanted(state)) return;
    if (deployment.config.keepAlive === 0) instance.beforeEnd = () => this.#makeLast(instance, guest, state);
    else if (!state.isFollowed) await this.#follow(instance, guest, state);
  }

  /** Of a sandbox that ends with its first call: no other moment comes. */
  async #makeLast(instance: Instance, guest: CachedGuest, state: State): Promise<void> {
    if (!isWanted(state) || this.#isMaking || instance.uses === 0) return;
    await this.#make(instance, guest, state, LAST_READ_MS_MAX);
  }

  /** Makes one as soon as the sandbox is quiet, and once more when it was called meanwhile. */
  async #follow(instance: Instance, guest: CachedGuest, state: State): Promise<void> {
    state.isFollowed = true;
    try {
      for (let looks = 1; looks <= LOOKS_MAX && !state.isTrained; looks++) {
        await sleep(LOOK_MS, undefined, { ref: false });
        if (instance.state !== 'active') return;
        const mayAsk = instance.isQuiet || looks >= BUSY_LOOKS_MAX;
        const isUsed = instance.uses > 0;
        if (!mayAsk || this.#isMaking || (state.sha256 !== undefined && !isUsed)) continue;
        if (!(await this.#make(instance, guest, state, READ_MS_MAX))) return;
      }
    } finally {
      state.isFollowed = false;
    }
  }

  /** False: the guest gave none. */
  async #make(instance: Instance, guest: CachedGuest, state: State, msMax: number): Promise<boolean> {
    this.#isMaking = true;
    try {
      const isUsed = instance.uses > 0;
      const bytes = await instance.whileAwake(() => guest.readCodeCache(msMax));
      if (bytes) await this.#keep(instance.deployment, state, bytes, isUsed);
      return bytes !== undefined;
    } finally {
      this.#isMaking = false;
    }
  }

  async #keep(deployment: Deployment, state: State, bytes: Buffer, isTrained: boolean): Promise<void> {
    const files = this.#filesOf(deployment);
    if (!files) return;
    await mkdir(files.folder, { recursive: true, mode: 0o700 });
    await this.#makeRoom(files.folder, files.cache);
    await writeDurably(files.cache, bytes, 0o444);
    const made = { sha256: hashOf(bytes), isTrained, cachedMs: [] };
    await this.#save(deployment, { ...state, ...made });
    // Last: who knows of it finds its files.
    Object.assign(state, made, { isChecked: true });
    this.#say(deployment, state, 'a code cache is kept');
  }

  async #save(deployment: Deployment, state: KeptState): Promise<void> {
    const files = this.#filesOf(deployment);
    if (!files) return;
    await mkdir(files.folder, { recursive: true, mode: 0o700 });
    await writeDurably(files.state, Buffer.from(JSON.stringify(KeptState.parse(state))), 0o600);
    await this.#count(deployment, files.folder);
  }

  async #drop(deployment: Deployment, state: State): Promise<void> {
    Object.assign(state, { sha256: undefined, isTrained: false, isChecked: false, cachedMs: [] });
    const files = this.#filesOf(deployment);
    if (files) await rm(files.cache, { force: true });
    await this.#save(deployment, state);
  }

  /** The oldest go: their states stay, and say that there is none. */
  async #makeRoom(folder: string, own: string): Promise<void> {
    const caches: { file: string; madeMs: number }[] = [];
    for (const name of await readdir(folder)) {
      const file = join(folder, name);
      if (!name.endsWith('.cache') || file === own) continue;
      caches.push({ file, madeMs: (await stat(file).catch(() => undefined))?.mtimeMs ?? 0 });
    }
    caches.sort((a, b) => b.madeMs - a.madeMs);
    for (const { file } of caches.slice(CACHES_PER_LAYER_MAX - 1)) await rm(file, { force: true });
  }

  async #count({ image }: Deployment, folder: string): Promise<void> {
    const names = await readdir(folder);
    const sizes = await Promise.all(
      names.map(async (name) => (await stat(join(folder, name)).catch(() => undefined))?.size ?? 0),
    );
    const digest = image.layers.at(-1)?.digest;
    const bytes = sizes.reduce((sum, size) => sum + size, 0);
    if (digest !== undefined) this.#options.store.countAnnex(digest, bytes);
  }

  async #stateOf(deployment: Deployment): Promise<State> {
    const known = this.#states.get(deployment.id);
    const files = this.#filesOf(deployment);
    // Evicted with its layer, and perhaps pulled again since. Somebody waits: a thread of the pool would take longer.
    if (known && (known.sha256 === undefined || known.isGivenUp || (files && existsSync(files.state))))
      return known;
    const text = files && (await readFile(files.state, 'utf8').catch(() => undefined));
    const current = this.#states.get(deployment.id);
    if (current && current !== known) return current;
    const kept = text === undefined ? undefined : KeptState.safeParse(tryParse(text)).data;
    const state: State = {
      ...(kept ?? { plainMs: [], cachedMs: [], isTrained: false, refusals: 0, isGivenUp: false }),
      isChecked: false,
      isFollowed: false,
    };
    this.#states.set(deployment.id, state);
    return state;
  }

  #filesOf({ id, image }: Deployment): { folder: string; cache: string; state: string } | undefined {
    const own = image.layers.at(-1);
    const folder = own && this.#options.store.annexOf(own.digest);
    if (folder === undefined) return undefined;
    const name = encodeURIComponent(id);
    return { folder, cache: join(folder, `${name}.cache`), state: join(folder, `${name}.json`) };
  }

  #say(deployment: Deployment, state: State, message: string): void {
    const { functionName, id } = deployment;
    const plainMs = Math.round(median(state.plainMs));
    const cachedMs = state.cachedMs.length > 0 ? { cachedMs: Math.round(median(state.cachedMs)) } : {};
    const facts = { isTrained: state.isTrained, plainMs, ...cachedMs };
    this.#options.log.info({ function: functionName, deployment: id, ...facts }, message);
  }
}

function isWanted(state: State): boolean {
  if (state.isGivenUp) return false;
  return state.sha256 === undefined ? isWorthMaking(state) : !state.isTrained;
}

function hashOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function tryParse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Whole under its name, or not there. */
async function writeDurably(file: string, bytes: Buffer, mode: number): Promise<void> {
  const draft = `${file}.new`;
  await rm(draft, { force: true });
  const handle = await open(draft, 'wx', mode);
  try {
    await handle.writeFile(bytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(draft, file);
}
