import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { functionFixture } from '../../helpers/fixtures.ts';
import { useServer } from '../../helpers/shared-server.ts';

const MB = 1024 ** 2;
const BYTES = 200 * MB;

describe('large bodies', () => {
  const server = useServer();
  let url: string;

  beforeAll(async () => {
    url = await server.deploy('streams', functionFixture('behaviour.ts'), { timeout: '60s' });
    await fetch(`${url}/`);
  });

  async function rssBytes(role: string): Promise<number> {
    const status = await readFile(`/proc/${await server.pidOf(role)}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
  }

  /** Highest growth of a role's memory while `work` runs. */
  async function growth(work: () => Promise<void>): Promise<number> {
    const roles = ['gateway', 'runner'];
    const before = await Promise.all(roles.map(rssBytes));
    let most = 0;
    const timer = setInterval(() => {
      void Promise.all(roles.map(rssBytes)).then((now) => {
        for (const [i, bytes] of now.entries()) most = Math.max(most, bytes - (before[i] as number));
      });
    }, 50);
    await work().finally(() => clearInterval(timer));
    return most;
  }

  it('200 MB up pass with flat memory in gateway and runner', async () => {
    const grown = await growth(async () => {
      let left = BYTES;
      const body = new ReadableStream({
        pull(controller) {
          const bytes = Math.min(left, 256 * 1024);
          left -= bytes;
          controller.enqueue(new Uint8Array(bytes));
          if (left === 0) controller.close();
        },
      });
      const response = await fetch(`${url}/upload`, { method: 'POST', body, duplex: 'half' } as RequestInit);
      expect(await response.text()).toBe(String(BYTES));
    });
    expect(grown).toBeLessThan(100 * MB);
  });

  it('200 MB down pass with flat memory in gateway and runner', async () => {
    const grown = await growth(async () => {
      const response = await fetch(`${url}/download?bytes=${BYTES}`);
      let bytes = 0;
      for await (const chunk of response.body as ReadableStream<Uint8Array>) bytes += chunk.length;
      expect(bytes).toBe(BYTES);
    });
    expect(grown).toBeLessThan(100 * MB);
  });

  it('a slow reader holds the function back, not the memory of the gateway', async () => {
    const grown = await growth(async () => {
      const response = await fetch(`${url}/download?bytes=${BYTES}`);
      const reader = (response.body as ReadableStream<Uint8Array>).getReader();
      await reader.read();
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      await reader.cancel();
    });
    expect(grown).toBeLessThan(60 * MB);
  });
});
