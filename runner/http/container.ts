/** Starts a deployment of an image that brings its own server. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { LayerStore } from '../../infra/oci/store.ts';
import type { SandboxHost, SandboxSpec } from '../../infra/sandbox/contract.ts';
import type { Deployment } from '../../sdk/protocol/api.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { PIDS_MAX, TMP_BYTES_MAX } from '../../sdk/protocol/limits.ts';
import { EGRESS } from '../../infra/network/egress-host.ts';
import type { Networks } from '../../infra/network/networks.ts';
import type { GuestSpec } from '../pool/guest-sandbox.ts';
import { chooseCwd } from './cwd.ts';
import type { NodeVolumes, TakenVolumes } from '../volume/volumes.ts';
import { HttpSandbox } from './http-sandbox.ts';

export interface ContainerParts {
  readonly host: SandboxHost;
  readonly store: LayerStore;
  readonly networks: Pick<Networks<Deployment>, 'bind'>;
  /** For files that deployments put into images; emptied when the runner starts. */
  readonly filesDir: string;
  /** For values of secrets: on a file system in memory, for root alone. */
  readonly secretsDir: string;
  readonly volumes: Pick<NodeVolumes, 'take'>;
}

/**
 * The image stays pinned in the store until its owner unpins it, unless the start fails.
 * @throws SkiffError COLD_START_FAILED, and what pulling an image can fail with
 */
export async function startContainer(
  parts: ContainerParts,
  deployment: Deployment,
  secrets: {
    readonly env: Readonly<Record<string, string>>;
    readonly files: Readonly<Record<string, string>>;
  },
  isReplica: boolean,
): Promise<HttpSandbox> {
  const { config, image, container } = deployment;
  if (!container)
    throw new SkiffError('COLD_START_FAILED', `deployment ${deployment.id} does not say how it is started`);
  const repository = image.reference.split('@')[0] as string;
  let secretsDir = '';
  let taken: TakenVolumes | undefined;
  parts.store.pin(repository, image.digest);
  try {
    const { lowerDirs } = await parts.store.ensureRootfs(image.reference);
    const spec: GuestSpec = {
      lowerDirs,
      args: container.args,
      env: { ...container.env, ...secrets.env },
      cwd: await chooseCwd(lowerDirs[0] as string, container.cwd),
      memoryBytes: config.memory,
      cpu: config.cpu,
      pidsMax: PIDS_MAX,
      tmpBytes: Math.min(TMP_BYTES_MAX, config.memory / 2),
      isolation: config.isolation,
      runtimeClass: config.runtimeClass,
      ...(config.network === 'none' ? {} : { networkNamespace: EGRESS }),
    };
    const sandbox = await HttpSandbox.start(parts.host, spec, {
      port: container.port,
      concurrency: config.concurrency,
      mounts: async (id) => [
        ...(taken = await parts.volumes.take(id, deployment, lowerDirs[0] as string, isReplica)).mounts,
        ...(await writeFiles(join(parts.filesDir, deployment.id), config.files ?? {})),
        ...(await writeSecrets((secretsDir = join(parts.secretsDir, id)), secrets.files)),
      ],
      readyPath: config.readyPath,
      prepare: async (id) => {
        if (config.network !== 'none') await parts.networks.bind(id, deployment);
      },
    });
    void sandbox.exited.then(() => Promise.all([forget(secretsDir), taken?.release()]));
    return sandbox;
  } catch (error) {
    await Promise.all([forget(secretsDir), taken?.release()]);
    parts.store.unpin(repository, image.digest);
    throw error;
  }
}

/** Read-only in the sandbox; the same for all sandboxes of a deployment, which never changes. */
async function writeFiles(
  folder: string,
  files: Readonly<Record<string, string>>,
): Promise<SandboxSpec['mounts']> {
  const entries = Object.entries(files);
  if (entries.length === 0) return [];
  await mkdir(folder, { recursive: true });
  return Promise.all(
    entries.map(async ([target, text], i) => {
      const source = join(folder, String(i));
      await writeFile(source, text, { mode: 0o444 });
      return { source, target, writable: false };
    }),
  );
}

/** As Docker does: each in a file of /run/secrets. */
async function writeSecrets(
  folder: string,
  secrets: Readonly<Record<string, string>>,
): Promise<SandboxSpec['mounts']> {
  const entries = Object.entries(secrets);
  if (entries.length === 0) return [];
  await mkdir(folder, { recursive: true, mode: 0o755 });
  for (const [name, value] of entries) await writeFile(join(folder, name), value, { mode: 0o444 });
  return [{ source: folder, target: '/run/secrets', writable: false }];
}

async function forget(folder: string): Promise<void> {
  if (folder !== '') await rm(folder, { recursive: true, force: true });
}
