/** From a sandbox's start to its end: nothing before its function, nothing of another, nothing after. */
import { describe, expect, it } from 'vitest';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '../../helpers/wait.ts';
import { sandboxPids, tryRead, type Probe } from '../probe.ts';
import type { Ground } from './escapes.ts';

const CANARY = 'canary-7f3a9c';

/** A random name that the sandbox keeps for its life. */
const identity = (): string => {
  const place = globalThis as { skiffIdentity?: string };
  return (place.skiffIdentity ??= `${Math.random()}`);
};

export function defineLife(ground: () => Ground): void {
  describe('life of a sandbox', () => {
    it('B1: no sandbox ever serves two functions', async () => {
      const { bench } = ground();
      const probes = await Promise.all(
        ['one', 'two', 'three'].map((name) =>
          bench.deploy(name, { concurrency: 2, max: 4, memory: '128MB', keepAlive: 300 }),
        ),
      );
      const seen = new Map<string, string>();
      const call = async (probe: Probe): Promise<void> => {
        const id = await probe.run(identity);
        expect(seen.get(id) ?? probe.name).toBe(probe.name);
        seen.set(id, probe.name);
      };
      for (let round = 0; round < 20; round++) {
        const burst = probes.flatMap((probe) => Array.from({ length: 4 }, () => call(probe)));
        await Promise.all(burst);
      }
      expect(seen.size).toBeGreaterThan(3);
    });

    it('B2 F10: a value of a function\u2019s environment is in no environment or command line of any process', async () => {
      const owner = await ground().bench.deploy('owner', { env: { CANARY } });
      expect(await owner.run(() => process.env['CANARY'])).toBe(CANARY);
      const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
      const leaks = pids.filter((pid) =>
        (tryRead(`/proc/${pid}/environ`) + tryRead(`/proc/${pid}/cmdline`)).includes(CANARY),
      );
      expect(leaks).toEqual([]);
    });

    it('B2 F10: nor in what the runtime keeps on disk, nor in a log of the platform', async () => {
      const { dataDir } = ground().bench.server;
      for (const folder of ['runner/state', 'log']) {
        const entries = readdirSync(join(dataDir, folder), { recursive: true, withFileTypes: true });
        for (const entry of entries.filter((one) => one.isFile())) {
          const file = join(entry.parentPath, entry.name);
          expect(tryRead(file).includes(CANARY), file).toBe(false);
        }
      }
    });

    it('B2: a new sandbox begins with an empty /tmp and without globals of an earlier one', async () => {
      const mark = await ground().bench.deploy('mark', { concurrency: 1, keepAlive: 0 });
      const visit = () =>
        mark.run(({ load }) => {
          const place = globalThis as { visited?: number };
          place.visited = (place.visited ?? 0) + 1;
          const found = load('fs').readdirSync('/tmp');
          load('fs').writeFileSync('/tmp/visited', 'x');
          return { found, visited: place.visited };
        });
      for (let round = 0; round < 3; round++) expect(await visit()).toEqual({ found: [], visited: 1 });
    });

    it('B3: after its answer a function runs no more until it is called again', async () => {
      const ticker = await ground().bench.deploy('ticker', { concurrency: 1 });
      const ticks = () =>
        ticker.run(() => {
          const place = globalThis as { ticks?: number };
          if (place.ticks === undefined) {
            place.ticks = 0;
            setInterval(() => place.ticks!++, 10);
          }
          return place.ticks;
        });
      await ticks();
      const started = performance.now();
      await new Promise((resolve) => setTimeout(resolve, 5_000));
      const possible = (performance.now() - started) / 10;
      expect(await ticks()).toBeLessThan(possible / 2);
    });

    it('B6: a time-out ends every process of it, also those that left its session and refuse to go', async () => {
      const { bench } = ground();
      const stubborn = await bench.deploy('stubborn', { concurrency: 1, timeout: '2s' });
      const before = new Set(sandboxPids(bench.server));
      const answer = await stubborn.send(({ load }) => {
        const script = 'process.on("SIGTERM",()=>{});process.on("SIGINT",()=>{});setInterval(()=>{},1e3)';
        for (let i = 0; i < 3; i++)
          load('child_process')
            .spawn('/usr/bin/node', ['-e', script], { detached: true, stdio: 'ignore' })
            .unref();
        for (;;);
      });
      expect(answer).toMatchObject({ status: 504, cause: 'timeout' });
      await waitFor(
        'the end of all its processes',
        () =>
          sandboxPids(bench.server).every(
            (pid) => before.has(pid) || /guest|^skiff stem/.test(tryRead(`/proc/${pid}/cmdline`)),
          ),
        5_000,
      );
      expect(await stubborn.run(() => 'again')).toBe('again');
    });

    it.each([
      ['bytes that are no frame', [0, 0, 0, 0, 0, 0]],
      ['a frame longer than any', [255, 255, 255, 255, 6, 0, 0, 0, 0]],
      ['a frame of a type that it may not send', [5, 0, 0, 0, 4, 1, 0, 0, 0]],
    ])('D6: %s on its channel ends it, and it alone', async (_name, bytes) => {
      const { bench, neighbourUrl } = ground();
      const liar = await bench.deploy('liar', { concurrency: 1 });
      const answer = await liar.send(({ load }, message) => {
        const fs = load('fs');
        const sockets = fs.readdirSync('/proc/self/fd').filter((fd) => {
          try {
            return Number(fd) > 2 && fs.readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:');
          } catch {
            return false;
          }
        });
        for (const fd of sockets) fs.writeSync(Number(fd), Uint8Array.from(message));
        return load('timers/promises').setTimeout(5_000, sockets.length);
      }, bytes);
      expect(answer).toMatchObject({ status: 502, cause: 'crash' });
      expect((await fetch(neighbourUrl)).status).toBe(200);
      expect(await liar.run(() => 'again')).toBe('again');
    });
  });
}
