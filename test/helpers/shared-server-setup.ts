/**
 * Starts the server that the end-to-end tests share (shared-server.ts), and checks at the end that it leaves nothing.
 * TEST_CELLS=4: with so many cells. TEST_CLUSTER=1: its stores are a Redis Cluster.
 */
import type { TestProject } from 'vitest/node';
import { startRedisCluster } from './redis-cluster.ts';
import { refreshSeed } from './server-seed.ts';
import { startServer } from './server.ts';

export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const cluster = process.env['TEST_CLUSTER'] ? await startRedisCluster() : undefined;
  const cells = process.env['TEST_CELLS'] ?? (cluster ? '6' : '1');
  const env = { SKIFF_CELLS: cells, ...(cluster ? { SKIFF_REDIS_URL: cluster.url } : {}) };
  const server = await startServer({ env });
  try {
    await refreshSeed(server);
  } catch (error) {
    await server.stop().catch(() => {});
    await cluster?.close();
    throw error;
  }
  project.provide('server', { url: server.url, dataDir: server.dataDir, token: server.adminToken });
  return async () => {
    await server.stop();
    await cluster?.close();
  };
}
