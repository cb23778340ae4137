/** A function takes all it can get. What it gets is its limit, and its neighbour answers all the time. */
import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { tryRead, type Answer, type Tools } from '../probe.ts';
import type { Ground } from './escapes.ts';
import { createClient } from '../../../sdk/client/index.ts';
import { findSource } from '../../../sdk/cli/source/files.ts';
import { packSource } from '../../../sdk/cli/source/pack.ts';
import { functionFixture } from '../../helpers/fixtures.ts';
import type { FunctionConfigInput } from '../../../sdk/protocol/manifest.ts';

/** Generous: the machine of a test may have two busy cores. Without limits the neighbour would not answer at all. */
const NEIGHBOUR_MS_MAX = 5_000;

/** Awaits an attack; until it is over the neighbour is called again and again, and answers each time. */
export async function besideNeighbour<Value>(
  { neighbourUrl }: Ground,
  attack: Promise<Value>,
): Promise<Value> {
  let isOver = false;
  const bomb = attack.finally(() => (isOver = true));
  bomb.catch(() => {});
  let calls = 0;
  do {
    const response = await fetch(neighbourUrl, { signal: AbortSignal.timeout(NEIGHBOUR_MS_MAX) });
    expect(response.status).toBe(200);
    await response.body?.cancel();
    calls++;
    await new Promise((resolve) => setTimeout(resolve, 20));
  } while (!isOver);
  expect(calls).toBeGreaterThan(0);
  return bomb;
}

export function defineBombs(ground: () => Ground): void {
  /** Runs an attack; meanwhile the neighbour is called again and again. */
  async function explode<Value>(
    name: string,
    config: FunctionConfigInput,
    attack: (tools: Tools) => Promise<Value> | Value,
  ): Promise<Answer<Value>> {
    const probe = await ground().bench.deploy(name, { concurrency: 1, ...config });
    const answer = await besideNeighbour(ground(), probe.send(attack));
    // The attacked function itself is served again, by a new sandbox if need be.
    expect(await probe.run(() => 'served')).toBe('served');
    return answer;
  }

  describe('bombs', () => {
    it('I1: memory: killed at its own limit and told so', async () => {
      const answer = await explode('memory', { memory: '128MB' }, () => {
        const kept: Buffer[] = [];
        for (;;) kept.push(Buffer.alloc(8 * 1024 * 1024, kept.length + 1));
      });
      expect(answer).toMatchObject({ status: 502, cause: 'out_of_memory' });
    });

    it('I1: memory in files of /tmp counts as memory', async () => {
      const answer = await explode('tmpfs', { memory: '96MB' }, ({ load }) => {
        const kept: Buffer[] = [];
        try {
          for (let i = 0; ; i++) load('fs').writeFileSync(`/tmp/${i}`, Buffer.alloc(4 * 1024 * 1024, 1));
        } catch {
          for (;;) kept.push(Buffer.alloc(4 * 1024 * 1024, 1));
        }
      });
      expect(answer).toMatchObject({ status: 502, cause: 'out_of_memory' });
    });

    it('I2: processes: a fork bomb ends at the limit; the host still forks', async () => {
      const bomb = explode('forks', { timeout: '3s' }, ({ execute }) => {
        // again: mov eax, 57 (fork); syscall; jmp again
        execute(Uint8Array.of(0xb8, 57, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7));
      });
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      execFileSync('/bin/true');
      expect(await bomb).toMatchObject({ status: 504, cause: 'timeout' });
    });

    it('I2: threads count as processes', async () => {
      const answer = await explode('threads', { timeout: '20s', memory: '512MB' }, async ({ load }) => {
        const { Worker } = load('worker_threads');
        for (let started = 0; started < 500; started++) {
          try {
            const worker = new Worker('setInterval(() => 0, 1e6)', {
              eval: true,
              resourceLimits: { maxOldGenerationSizeMb: 4 },
            });
            await new Promise<void>((resolve, reject) => {
              worker.once('online', resolve).once('error', reject);
            });
          } catch {
            return started;
          }
        }
        return 500;
      });
      // Either the runtime reports the limit, or it dies of it or of memory: never 500 threads.
      if (answer.status === 200) expect(answer.value).toBeLessThan(128);
      else expect(answer.cause).toMatch(/crash|out_of_memory|timeout/);
    });

    it('I2: open files end at the limit', async () => {
      const answer = await explode('files', {}, ({ load }) => {
        const fs = load('fs');
        const open: number[] = [];
        try {
          for (;;) open.push(fs.openSync('/dev/null', 'r'));
        } catch (error) {
          for (const fd of open) fs.closeSync(fd);
          return [(error as NodeJS.ErrnoException).code, open.length];
        }
      });
      expect(answer.value?.[0]).toBe('EMFILE');
      expect(answer.value?.[1]).toBeLessThanOrEqual(1024);
    });

    it('I3: processor time: a spinning function gets its share', async () => {
      const answer = await explode('spin', { cpu: 0.5, timeout: '20s' }, () => {
        const started = performance.now();
        const before = process.cpuUsage();
        while (performance.now() - started < 3_000);
        const { user, system } = process.cpuUsage(before);
        return (user + system) / 1_000 / (performance.now() - started);
      });
      expect(answer.value).toBeLessThan(0.65);
    });

    it('I4: a storm of writes and syncs', async () => {
      const answer = await explode('storm', { timeout: '20s' }, ({ load }) => {
        const fs = load('fs');
        const until = performance.now() + 2_000;
        let rounds = 0;
        for (; performance.now() < until; rounds++) {
          const fd = fs.openSync('/tmp/storm', 'w');
          fs.writeSync(fd, Buffer.alloc(65_536));
          fs.fsyncSync(fd);
          fs.closeSync(fd);
          fs.unlinkSync('/tmp/storm');
        }
        return rounds;
      });
      expect(answer.value).toBeGreaterThan(0);
    });

    it.each([
      ['lines', 'x\n'.repeat(32_768)],
      ['one line without an end', 'x'.repeat(65_536)],
      ['bytes that are no text', '\u0000\uFFFE'.repeat(16_384)],
    ])(
      'I5: a flood of output, %s: the runner keeps its memory and says how much it dropped',
      async (kind, piece) => {
        const { bench } = ground();
        const runner = bench.server.state.processes['runner'] as number;
        const memory = () => Number(/^VmRSS:\s+(\d+)/m.exec(tryRead(`/proc/${runner}/status`))?.[1]) / 1024;
        const before = memory();
        const name = `flood-${kind.length}`;
        const probe = await bench.deploy(name, { concurrency: 1, timeout: '20s' });
        const flood = probe.run(({ load }, text) => {
          const until = performance.now() + 2_000;
          let bytes = 0;
          const end = Buffer.from(text);
          while (performance.now() < until) bytes += load('fs').writeSync(1, end);
          return bytes;
        }, piece);
        expect(await besideNeighbour(ground(), flood)).toBeGreaterThan(1024 * 1024);
        expect(memory() - before).toBeLessThan(200);
      },
    );

    it('B9: a function that dies at every start costs its callers an error, and nobody else anything', async () => {
      const { bench } = ground();
      const client = createClient({ url: bench.server.url, token: bench.server.adminToken });
      const { files, entry } = findSource(functionFixture('moody.ts'));
      await client.secrets.set('mood', 'good');
      const { url } = await client.deploy('moody', {
        source: () => packSource(files),
        entry,
        config: { secrets: ['mood'] },
      });
      expect((await fetch(url)).status).toBe(200);
      // Its sandbox ends, and no later one starts.
      await client.secrets.set('mood', 'bad');
      await expect.poll(async () => (await fetch(url)).status, { timeout: 20_000 }).toBe(502);
      const calls = Array.from({ length: 40 }, async () => {
        const response = await fetch(url);
        await response.body?.cancel();
        return [response.status, response.headers.get('skiff-cause')];
      });
      for (const end of await besideNeighbour(ground(), Promise.all(calls)))
        expect(end).toEqual([502, 'cold_start_failed']);
      // Known to fail, it is not tried again each time.
      const started = () => bench.server.log('runner').split('a sandbox could not be started').length;
      expect(started()).toBeLessThan(60);
      await client.remove('moody');
    });
  });
}
