/** Starts the server that the end-to-end tests share (shared-server.ts), and checks at the end that it leaves nothing. */
import type { TestProject } from 'vitest/node';
import { refreshSeed } from './server-seed.ts';
import { startServer } from './server.ts';

export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await startServer();
  await refreshSeed(server);
  project.provide('server', { url: server.url, dataDir: server.dataDir, token: server.adminToken });
  return () => server.stop();
}
