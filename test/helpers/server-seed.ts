/**
 * Keeps the base images between test servers: without them each would pack and push 60 MB before its first deploy.
 * The first server of a run is brought up on the seed of the last one; when its builder has made or found the image,
 * its registry's folder becomes the seed of the servers after it.
 */
import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SEED_DIR, type TestServer } from './server.ts';
import { waitFor } from './wait.ts';

const BASE_IMAGE_MS_MAX = 180_000;

/** The builder says at its start what image it has, or that there is none. */
function tryReadReference(log: string): string | undefined {
  if (log.includes('the base image could not be made')) throw new Error(`no base image:\n${log.slice(-2_000)}`);
  return /"detail":"ready: ([^"]+)"/.exec(log)?.[1];
}

function tryReadSeeded(): string | undefined {
  try {
    return readFileSync(join(SEED_DIR, 'reference'), 'utf8');
  } catch {
    return undefined;
  }
}

/** To be called before anything is deployed: what is in the registry then is base images and nothing else. */
export async function refreshSeed(server: TestServer): Promise<void> {
  const read = () => tryReadReference(server.log('builder'));
  const reference = await waitFor('the base image', read, BASE_IMAGE_MS_MAX);
  if (tryReadSeeded() === reference) return;
  const draft = `${SEED_DIR}.${process.pid}`;
  mkdirSync(draft, { recursive: true });
  cpSync(join(server.dataDir, 'registry'), join(draft, 'registry'), { recursive: true });
  writeFileSync(join(draft, 'reference'), reference);
  // In one step: a run beside this one sees the old or the new, never half.
  rmSync(SEED_DIR, { recursive: true, force: true });
  renameSync(draft, SEED_DIR);
}
