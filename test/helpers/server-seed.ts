/**
 * Brings the base images of the test servers up to date, once a run: starts a server on the seed of the last run,
 * waits until its builder says that the image is ready, and keeps the registry's folder. vitest calls it before the
 * first e2e file. Without it every server of every test would pack and push 60 MB.
 */
import { cpSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { SEED_DIR, startServer } from './server.ts';
import { waitFor } from './wait.ts';

const BASE_IMAGE_MS_MAX = 180_000;

function describeBase(log: string): 'ready' | 'failed' | undefined {
  if (log.includes('could not be made')) return 'failed';
  return /"detail":"ready: /.test(log) ? 'ready' : undefined;
}

export default async function setup(): Promise<void> {
  const server = await startServer();
  try {
    const outcome = await waitFor(
      'the base image',
      () => describeBase(server.log('builder')),
      BASE_IMAGE_MS_MAX,
    );
    if (outcome === 'failed') throw new Error(`the base image could not be made:\n${server.output}`);
  } catch (error) {
    await server.stop().catch(() => {});
    throw error;
  }
  await server.stop({ keepData: true });
  keep(join(server.dataDir, 'registry'));
  rmSync(server.dataDir, { recursive: true });
}

/** Replaces the seed in one step: a run beside this one sees the old or the new, never half. */
function keep(registry: string): void {
  const draft = `${SEED_DIR}.${process.pid}`;
  mkdirSync(draft, { recursive: true });
  cpSync(registry, join(draft, 'registry'), { recursive: true });
  rmSync(SEED_DIR, { recursive: true, force: true });
  renameSync(draft, SEED_DIR);
}
