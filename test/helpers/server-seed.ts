/**
 * Keeps the base image between test servers, packed in the registry and unpacked in the runner's store: without it
 * each would spend seconds of both cores on the same 60 MB before its first deploy is live. The first server of a run is
 * brought up on the seed of the last one; when its builder has made or found the image, the seed is made anew if that
 * is another image.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { SEED_DIR, SEEDED, copyTree, type TestServer } from './server.ts';
import { waitFor } from './wait.ts';

/** A runner unpacks the base image when it is first asked for a function on it. */
const EXAMPLE = 'infra/deploy/examples/hello.ts';
const BASE_IMAGE_MS_MAX = 180_000;

/** The builder says at its start what image it has, or that there is none. */
function tryReadReference(log: string): string | undefined {
  if (log.includes('the base image could not be made'))
    throw new Error(`no base image:\n${log.slice(-2_000)}`);
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
  const copy = (folder: string) => {
    mkdirSync(join(draft, dirname(folder)), { recursive: true });
    copyTree(join(server.dataDir, folder), join(draft, folder));
  };
  // The registry first: it is to hold the base image and nothing else.
  copy(SEEDED.registry);
  await server.deploy(EXAMPLE, ['--name', 'seed']);
  copy(SEEDED.store);
  const { code, stderr } = await server.cli(['rm', 'seed']);
  if (code !== 0) throw new Error(`skiff rm seed ended with ${code}: ${stderr}`);
  writeFileSync(join(draft, 'reference'), reference);
  // In one step: a run beside this one sees the old or the new, never half.
  rmSync(SEED_DIR, { recursive: true, force: true });
  renameSync(draft, SEED_DIR);
}
