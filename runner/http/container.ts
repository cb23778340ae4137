/** Starts a deployment of an image that brings its own server. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { LayerStore } from '../../infra/oci/store.ts';
import type { SandboxHost, SandboxSpec } from '../../infra/sandbox/contract.ts';
import type { Deployment } from '../../sdk/protocol/api.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { PIDS_MAX, TMP_BYTES_MAX } from '../../sdk/protocol/limits.ts';
import { EGRESS } from '../network/egress-host.ts';
import type { Networks } from '../network/networks.ts';
import type { GuestSpec } from '../pool/guest-sandbox.ts';
import { chooseCwd } from './cwd.ts';
import { HttpSandbox } from './http-sandbox.ts';

export interface ContainerParts {
  readonly host: SandboxHost;
  readonly store: LayerStore;
  readonly networks: Pick<Networks, 'bind'>;
  /** For files that deployments put into images; emptied when the runner starts. */
  readonly filesDir: string;
}

/**
 * The image stays pinned in the store until its owner unpins it, unless the start fails. `secrets` are variables.
 * @throws SkiffError COLD_START_FAILED, and what pulling an image can fail with
 */
export async function startContainer(
  parts: ContainerParts,
  deployment: Deployment,
  secrets: Readonly<Record<string, string>>,
): Promise<HttpSandbox> {
  const { config, image, container } = deployment;
  if (!container)
    throw new SkiffError('COLD_START_FAILED', `deployment ${deployment.id} does not say how it is started`);
  const repository = image.reference.split('@')[0] as string;
  parts.store.pin(repository, image.digest);
  try {
    const { lowerDirs } = await parts.store.ensureRootfs(image.reference);
    const spec: GuestSpec = {
      lowerDirs,
      args: container.args,
      env: { ...container.env, ...secrets },
      cwd: await chooseCwd(lowerDirs[0] as string, container.cwd),
      memoryBytes: config.memory,
      cpu: config.cpu,
      pidsMax: PIDS_MAX,
      tmpBytes: Math.min(TMP_BYTES_MAX, config.memory / 2),
      isolation: config.isolation,
      runtimeClass: config.runtimeClass,
      ...(config.network === 'none' ? {} : { networkNamespace: EGRESS }),
    };
    return await HttpSandbox.start(parts.host, spec, {
      port: container.port,
      concurrency: config.concurrency,
      mounts: await writeFiles(join(parts.filesDir, deployment.id), config.files ?? {}),
      readyPath: config.readyPath,
      prepare: async (id) => {
        if (config.network !== 'none') await parts.networks.bind(id, deployment);
      },
    });
  } catch (error) {
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
