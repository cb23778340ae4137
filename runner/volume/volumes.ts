/**
 * Volumes on this node: who uses which, how full they are, and their removal when somebody asked for it.
 * Invariants: one sandbox uses a volume at a time; a file is removed only when its record says so, so that neither an
 * emptied store nor a node that comes back loses anybody's data. A sandbox of no service is given empty volumes that
 * end with it.
 * Deliberately absent: how one is made and mounted (infra/sandbox/volume.ts), and which node has it (the reconciler).
 */
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { lstat, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { SandboxSpec } from '../../infra/sandbox/contract.ts';
import type { Volumes } from '../../infra/swarm/volumes.ts';
import type { Log } from '../../infra/lib/log.ts';
import type { Deployment, NodeRecord } from '../../sdk/protocol/api.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { STOP_GRACE_MS } from '../../sdk/protocol/limits.ts';
import type { VolumeMount } from '../../sdk/protocol/manifest.ts';
import { resolveName } from '../../sdk/protocol/reach/namespaces.ts';

export interface NodeVolumesOptions {
  readonly node: string;
  /** One file for each volume. */
  readonly dir: string;
  /** For volumes that end with their sandbox; emptied when the runner starts. */
  readonly scratchDir: string;
  /** Read alone: whoever leads forgets a record when this node has it no more (gateway/swarm/service/volumes.ts). */
  readonly records: Pick<Volumes, 'get' | 'list'>;
  readonly log: Log;
}

export interface TakenVolumes {
  readonly mounts: SandboxSpec['mounts'];
  /** When the sandbox is gone, or was never started. */
  release(): Promise<void>;
}

/** The one before it has this long to end, and a little more for its mounts. */
const TAKE_MS_MAX = STOP_GRACE_MS + 5_000;
const POLL_MS = 50;
const SUFFIX = '.ext4';

export class NodeVolumes {
  readonly #options: NodeVolumesOptions;
  /** Sandbox by id of the volume. */
  readonly #users = new Map<string, string>();

  constructor(options: NodeVolumesOptions) {
    this.#options = options;
    mkdirSync(options.dir, { recursive: true, mode: 0o700 });
  }

  /** @throws SkiffError COLD_START_FAILED when one is elsewhere, being removed, or in use for too long */
  async take(
    sandbox: string,
    deployment: Deployment,
    root: string,
    isReplica: boolean,
  ): Promise<TakenVolumes> {
    const wanted = deployment.config.volumes ?? [];
    const taken: string[] = [];
    const scratch = join(this.#options.scratchDir, sandbox);
    const release = async (): Promise<void> => {
      for (const id of taken) this.#users.delete(id);
      if (!isReplica && wanted.length > 0) await rm(scratch, { recursive: true, force: true });
    };
    try {
      if (!isReplica && wanted.length > 0) await mkdir(scratch, { recursive: true, mode: 0o700 });
      const mounts = [];
      for (const [index, volume] of wanted.entries()) {
        let file = join(scratch, `${index}${SUFFIX}`);
        if (isReplica) {
          const id = await this.#claim(resolveName(volume.name, deployment.functionName), sandbox);
          taken.push(id);
          file = this.#fileOf(id);
        }
        mounts.push(await describeMount(file, volume, root));
      }
      return { mounts, release };
    } catch (error) {
      await release();
      throw error;
    }
  }

  /** For the node's record. */
  usage(): NonNullable<NodeRecord['volumes']> {
    const ids = readdirSync(this.#options.dir).filter((name) => name.endsWith(SUFFIX));
    return Object.fromEntries(
      ids.flatMap((name) => {
        const stat = statSync(join(this.#options.dir, name), { throwIfNoEntry: false });
        return stat
          ? [[name.slice(0, -SUFFIX.length), { bytes: stat.blocks * 512, bytesMax: stat.size }]]
          : [];
      }),
    );
  }

  /** Removes what its records say is to be removed. */
  async sweep(): Promise<void> {
    const { node, records, log } = this.#options;
    for (const volume of await records.list()) {
      if (volume.node !== node || volume.removedMs === undefined || this.#users.has(volume.id)) continue;
      const file = this.#fileOf(volume.id);
      if (!existsSync(file)) continue;
      await rm(file);
      log.info({ volume: volume.name, id: volume.id }, 'volume removed');
    }
  }

  async #claim(name: string, sandbox: string): Promise<string> {
    const deadline = performance.now() + TAKE_MS_MAX;
    for (;;) {
      const record = await this.#options.records.get(name);
      const fault = this.#findFault(name, record);
      if (fault === undefined && record && !this.#users.has(record.id)) {
        this.#users.set(record.id, sandbox);
        return record.id;
      }
      if (performance.now() > deadline || record?.node !== this.#options.node)
        throw new SkiffError(
          'COLD_START_FAILED',
          fault ?? `the volume "${name}" is in use by another sandbox`,
        );
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  #findFault(name: string, record: Awaited<ReturnType<Volumes['get']>>): string | undefined {
    const { node } = this.#options;
    if (!record) return `there is no volume "${name}"`;
    if (record.node !== node)
      return `the volume "${name}" is on the node ${record.node}, and this is ${node}`;
    return record.removedMs === undefined ? undefined : `the volume "${name}" is being removed`;
  }

  #fileOf(id: string): string {
    return join(this.#options.dir, `${id}${SUFFIX}`);
  }
}

/** What the image has at the target is what a new volume begins with, as in Docker. */
async function describeMount(
  source: string,
  { target, size }: VolumeMount,
  root: string,
): Promise<SandboxSpec['mounts'][number]> {
  const seed = await tryFindFolder(root, target);
  return { source, target, writable: true, volume: { bytesMax: size, ...(seed !== undefined && { seed }) } };
}

/** Every part of it is a real folder: a link would lead to the host's files. */
async function tryFindFolder(root: string, target: string): Promise<string | undefined> {
  let path = root;
  for (const part of target.split('/').filter(Boolean)) {
    path = join(path, part);
    const stat = await lstat(path).catch(() => undefined);
    if (!stat?.isDirectory()) return undefined;
  }
  return path;
}
