/**
 * A whole server whose gateway and consumer reach the durable store through a relay that a test can stop, and what the
 * tests of crash points ask it.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient, type Client, type InvocationRecord } from '../../sdk/client/index.ts';
import { findSource } from '../../sdk/cli/source/files.ts';
import { packSource } from '../../sdk/cli/source/pack.ts';
import { functionFixture } from './fixtures.ts';
import { startRedis, type TestRedis } from './redis.ts';
import { startRedisProxy, type RedisProxy } from './redis-proxy.ts';
import { startServer, type TestServer } from './server.ts';
import { ROOT } from './source-tree.ts';
import { waitFor } from './wait.ts';

export interface EventServer {
  readonly server: TestServer;
  readonly client: Client;
  readonly proxy: RedisProxy;
  readonly durable: TestRedis;
  /** URL of the function `ledger`, which has every behaviour of the fixture. */
  readonly url: string;
  /** The same function, or another fixture, under another name. Returns its URL. */
  deploy(name: string, config?: Record<string, unknown>, fixture?: string): Promise<string>;
  /** How often the function logged this message in an invocation. */
  logged(name: string, id: string, message: string): Promise<number>;
  /** SIGKILL; resolves when the supervisor has started another one. */
  killAndWait(name: string): Promise<void>;
  /** A second consumer beside the server's own. */
  startConsumer(): ChildProcess;
  /** How often the function says it was called for this invocation. */
  executions(id: string): Promise<number>;
  end(id: string, msMax?: number): Promise<InvocationRecord>;
  close(): Promise<void>;
}

export const LEDGER = 'ledger';

export async function startEventServer(config: Record<string, unknown> = {}): Promise<EventServer> {
  const folder = mkdtempSync(join(tmpdir(), 'skiff-relay-'));
  const [durable, fast] = await Promise.all([startRedis({ persistent: true }), startRedis()]);
  const proxy = await startRedisProxy(durable.socket, join(folder, 'relay.sock'));
  const server = await startServer({ env: { SKIFF_REDIS_URL: proxy.url, SKIFF_REDIS_FAST_URL: fast.url } });
  const client = createClient({ url: server.url, token: server.adminToken });
  async function deploy(
    name: string,
    own: Record<string, unknown> = {},
    fixture = 'events.ts',
  ): Promise<string> {
    const { files, entry } = findSource(functionFixture(fixture));
    const settings = { async: { retries: 2, backoff: '100ms', ...own } };
    return (await client.deploy(name, { source: () => packSource(files), entry, config: settings })).url;
  }
  const url = await deploy(LEDGER, config);
  // Scripts are known to Redis afterwards, sandboxes are warm.
  for (let i = 0; i < 3; i++) {
    await client.waitFor((await client.invokeAsync(LEDGER, { method: 'POST' })).id, { waitMs: 30_000 });
  }

  async function logged(name: string, id: string, message: string): Promise<number> {
    let count = 0;
    // The log comes a moment after the answer.
    await new Promise((resolve) => setTimeout(resolve, 500));
    for await (const line of client.logs(name, { invocation: id })) if (line.message === message) count += 1;
    return count;
  }

  return {
    server,
    client,
    proxy,
    durable,
    url,
    deploy,
    async killAndWait(name) {
      const pid = server.kill(name);
      await waitFor(
        `another ${name}`,
        () => ![undefined, pid].includes(server.state.processes[name]),
        30_000,
      );
      await untilReady(server);
    },
    startConsumer() {
      // What the server's own one was started with.
      const text = readFileSync(`/proc/${server.state.processes['events']}/environ`, 'utf8');
      const pairs = text.split('\0').filter(Boolean);
      const env = Object.fromEntries(
        pairs.map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]),
      );
      return spawn(process.execPath, [join(ROOT, 'gateway/events/main.ts')], { env, stdio: 'ignore' });
    },
    logged,
    executions: (id) => logged(LEDGER, id, 'called'),
    end: (id, msMax = 60_000) =>
      waitFor(
        `the end of ${id}`,
        async () => {
          const record = await client.waitFor(id, { waitMs: 5_000 }).catch(() => undefined);
          return record?.endedMs === undefined ? undefined : record;
        },
        msMax,
      ),
    async close() {
      proxy.mend();
      await server.stop();
      await proxy.close();
      await Promise.all([durable.close(), fast.close()]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export async function untilReady(server: TestServer): Promise<void> {
  await waitFor('readiness', async () => (await server.fetch('/readyz').catch(() => undefined))?.ok, 60_000);
}
