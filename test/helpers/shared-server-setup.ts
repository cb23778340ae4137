/** Starts the server that the end-to-end tests share (shared-server.ts), and checks at the end that it leaves nothing. */
import type { TestProject } from 'vitest/node';
import { refreshSeed } from './server-seed.ts';
import { startServer } from './server.ts';

export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await startServer();
  try {
    await refreshSeed(server);
  } catch (error) {
    await server.stop().catch(() => {});
    throw error;
  }
  project.provide('server', { url: server.url, dataDir: server.dataDir, token: server.adminToken });
  return () => server.stop();
}
