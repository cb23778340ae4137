/**
 * Keeps the base images between test servers: those of Node and Python packed in the registry, that of Node unpacked in
 * the runner's store, and what the builder noted of apt's versions and of the digests of large programs. Without it each would
 * spend seconds of both cores on the same 60 MB before its first deploy is live. The first server of a run is
 * brought up on the seed of the last one; when its builder has made or found the image, the seed is made anew if that
 * is another image.
 */
import { randomUUID } from 'node:crypto';
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { ensureBaseImage } from '../../builder/base/base-image.ts';
import { REGISTRY_USER } from '../../infra/host/backbone.ts';
import { openRegistry } from '../../infra/oci/registry.ts';
import { releaseClaim, tryClaim } from '../../infra/sandbox/claim.ts';
import { SEED_DIR, SEEDED, copyTree, type TestServer } from './server.ts';
import { waitFor } from './wait.ts';

/** A runner unpacks the base image when it is first asked for a function on it. */
const EXAMPLE = 'infra/deploy/examples/hello.ts';
/** Takes many seconds to assemble, and several servers need it. The builder's own tests assemble it from nothing. */
const SECOND_RUNTIME = 'python:3.11';
const BASE_IMAGE_MS_MAX = 180_000;
/** Of two base images. */
const SEED_MS_MAX = 360_000;
const CLAIM = `${SEED_DIR}-claim`;

/** The builder says at its start what image it has, or that there is none. */
function tryReadReference(log: string): string | undefined {
  if (log.includes('the base image could not be made'))
    throw new Error(`no base image:\n${log.slice(-2_000)}`);
  return /"detail":"ready: ([^"]+)"/.exec(log)?.[1];
}

/** The image that the seed was made with, when it holds what a seed holds now. */
function tryReadSeeded(): string | undefined {
  try {
    const [reference, second] = readFileSync(join(SEED_DIR, 'reference'), 'utf8').split('\n');
    return second === SECOND_RUNTIME ? reference : undefined;
  } catch {
    return undefined;
  }
}

/** To be called before anything is deployed: what is in the registry then is base images and nothing else. */
export async function refreshSeed(server: TestServer): Promise<void> {
  const read = () => tryReadReference(server.log('builder'));
  const reference = await waitFor('the base image', read, BASE_IMAGE_MS_MAX);
  if (tryReadSeeded() === reference) return;
  // Files that run beside each other come here together; one of them makes it.
  await waitFor('the seed of another test', () => tryClaim(CLAIM), SEED_MS_MAX);
  try {
    if (tryReadSeeded() !== reference) await makeSeed(server, reference);
  } finally {
    releaseClaim(CLAIM);
  }
}

async function makeSeed(server: TestServer, reference: string): Promise<void> {
  const draft = `${SEED_DIR}.${randomUUID()}`;
  const copy = (folder: string) => {
    mkdirSync(join(draft, dirname(folder)), { recursive: true });
    copyTree(join(server.dataDir, folder), join(draft, folder));
  };
  // The registry first: it is to hold base images and nothing else.
  await addBaseImage(server, SECOND_RUNTIME);
  copy(SEEDED.registry);
  await server.deploy(EXAMPLE, ['--name', 'seed']);
  copy(SEEDED.store);
  copyNotes(server, join(draft, SEEDED.notes));
  const { code, stderr } = await server.cli(['rm', 'seed']);
  if (code !== 0) throw new Error(`skiff rm seed ended with ${code}: ${stderr}`);
  writeFileSync(join(draft, 'reference'), `${reference}\n${SECOND_RUNTIME}`);
  publish(draft);
}

/** As the server's builder would, into its registry. */
async function addBaseImage(server: TestServer, runtime: string): Promise<void> {
  const password = readFileSync(join(server.dataDir, 'registry.password'), 'utf8').trim();
  const registry = openRegistry({ url: server.state.registryUrl, user: REGISTRY_USER, password });
  try {
    await ensureBaseImage({ runtime, registry, workDir: join(server.dataDir, SEEDED.notes) });
  } finally {
    await registry.close();
  }
}

/** The notes alone: packages and archives are fetched again by whoever needs them. */
function copyNotes(server: TestServer, to: string): void {
  const from = join(server.dataDir, SEEDED.notes);
  for (const name of readdirSync(from, { recursive: true, encoding: 'utf8' })) {
    if (!name.endsWith('.json') || name.includes('/package/')) continue;
    mkdirSync(dirname(join(to, name)), { recursive: true });
    copyFileSync(join(from, name), join(to, name));
  }
}

/** In one step: whoever copies the seed just now has the old one, whole, or the new one. */
function publish(draft: string): void {
  const before = tryReadLink(SEED_DIR);
  // A folder is not replaced by a link.
  if (before === undefined) rmSync(SEED_DIR, { recursive: true, force: true });
  symlinkSync(basename(draft), `${draft}.link`);
  renameSync(`${draft}.link`, SEED_DIR);
  const folder = dirname(SEED_DIR);
  for (const name of readdirSync(folder)) {
    const isOld = name.startsWith(`${basename(SEED_DIR)}.`) && name !== basename(draft) && name !== before;
    if (isOld && !name.endsWith('.link')) rmSync(join(folder, name), { recursive: true, force: true });
  }
}

function tryReadLink(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
