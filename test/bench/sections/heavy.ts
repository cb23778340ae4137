/**
 * Cold starts of a function with a heavy dependency tree, with V8's code cache and without: two servers that differ in
 * nothing else, one sample of each after the other. Needs the npm registry of this host.
 */
import { globSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Record } from '../stats.ts';
import { Subject } from '../subject.ts';

const NAME = 'heavy';
/** Real packages, of the versions this repository pins: some 4 MB of code in one bundle. */
const PACKAGES = ['@opentelemetry/sdk-node', 'bullmq', 'hono', 'ioredis', 'undici', 'zod'];
const SOURCE = `import { NodeSDK } from '@opentelemetry/sdk-node';
import { Queue } from 'bullmq';
import { Hono } from 'hono';
import { Redis } from 'ioredis';
import { Agent } from 'undici';
import * as z from 'zod';

const app = new Hono();
const Name = z.object({ name: z.string().max(20) });
app.get('*', (c) => c.json({ ...Name.parse({ name: 'x' }), loaded: [NodeSDK, Queue, Redis, Agent].length }));
export default app;
`;
const CACHE_MS_MAX = 60_000;

export class Heavy {
  readonly #cached: Subject;
  readonly #plain: Subject;

  private constructor(cached: Subject, plain: Subject) {
    this.#cached = cached;
    this.#plain = plain;
  }

  /** Resolves when both have the function and one of them its code cache. */
  static async start(port: number): Promise<Heavy> {
    const cached = await Subject.start(port, {});
    const plain = await Subject.start(port + 10, { SKIFF_CODE_CACHE: 'off' });
    const heavy = new Heavy(cached, plain);
    const folder = await mkdtemp(join(tmpdir(), 'skiff-bench-heavy-'));
    try {
      await writeApp(folder);
      for (const subject of [cached, plain]) {
        await subject.deploy(NAME, folder, { keepAlive: 1_000, concurrency: 1 });
        await subject.firstByteMs(NAME);
      }
      await heavy.#untilTrained();
      return heavy;
    } catch (error) {
      await heavy.close();
      throw error;
    } finally {
      await rm(folder, { recursive: true });
    }
  }

  async round(record: Record, samples: number): Promise<void> {
    for (let i = 0; i < samples; i++) {
      for (const subject of [this.#cached, this.#plain]) await untilCold(subject);
      const [cached, plain] = [this.#cached, this.#plain];
      record.of('cold start of a heavy function, code cache', 'ms').add(await cached.firstByteMs(NAME));
      record.of('cold start of a heavy function, none', 'ms').add(await plain.firstByteMs(NAME));
    }
  }

  async close(): Promise<void> {
    await Promise.all([this.#cached.close(), this.#plain.close()]);
  }

  async #untilTrained(): Promise<void> {
    const deadline = performance.now() + CACHE_MS_MAX;
    const pattern = join(this.#cached.dataDir, 'runner/store/layers/*/annex/*.json');
    while (!globSync(pattern).some((file) => readFileSync(file, 'utf8').includes('"isTrained":true'))) {
      if (performance.now() > deadline) throw new Error(`no code cache after ${CACHE_MS_MAX} ms`);
      // A call that ends gives it the quiet moment it waits for.
      await this.#cached.firstByteMs(NAME);
      await sleep(500);
    }
  }
}

async function untilCold(subject: Subject): Promise<void> {
  while (((await subject.client.get(NAME)).sandboxes ?? 0) > 0) await sleep(50);
  // The stem that took the place of the last one is ready by then.
  await sleep(300);
}

async function writeApp(folder: string): Promise<void> {
  const own = JSON.parse(await readFile(new URL('../../../package.json', import.meta.url), 'utf8')) as {
    dependencies: { readonly [name: string]: string };
  };
  const dependencies = Object.fromEntries(PACKAGES.map((name) => [name, own.dependencies[name] as string]));
  await writeFile(join(folder, 'package.json'), JSON.stringify({ name: NAME, dependencies }));
  await writeFile(join(folder, 'index.ts'), SOURCE);
}
