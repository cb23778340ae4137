/**
 * From a Containerfile to an image of the registry: the images it stands on are looked up and laid out, buildah makes
 * the rest in a sandbox, and what it left is checked and pushed. Nothing of a build stays on disk.
 * Deliberately absent: a cache of steps between builds. One that a build may write would let it decide what another
 * build gets; an unchanged source on unchanged images is not built again at all.
 */
import { chmod, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { SandboxHost } from '../../infra/sandbox/contract.ts';
import { claimIdRange } from '../../infra/sandbox/id-ranges.ts';
import { createId } from '../../sdk/protocol/ids.ts';
import type { Network } from '../../sdk/protocol/manifest.ts';
import { type BuildNetworks, openBuildNetwork } from './network.ts';
import { layOut, type InputImage } from './input-images.ts';
import { type KnownLayer, type OutputTarget, pushOutput } from './output-image.ts';
import { runBuildah } from './run.ts';
import { ensureBuildRoot } from './tools.ts';

export interface ContainerBuilderOptions {
  readonly host: SandboxHost;
  readonly uidBase: number;
  readonly networks: BuildNetworks;
  /** Ours alone; what is below `runs` is emptied by `open`. */
  readonly folder: string;
}

export interface ContainerBuild {
  /** Of the build: a name for its folder. */
  readonly id: string;
  /** Folder of the source. */
  readonly context: string;
  /** As readContainerfile rewrote it. */
  readonly text: string;
  readonly args: Readonly<Record<string, string>>;
  readonly target: string | undefined;
  readonly network: Network;
  /** In the order of its names. */
  readonly images: readonly (InputImage & { readonly name: string })[];
  readonly signal: AbortSignal;
  readonly onLine: (line: string) => void;
}

type Pushed = Awaited<ReturnType<typeof pushOutput>>;

export interface ContainerBuilder {
  /** @throws SkiffError BUILD_FAILED, UNAVAILABLE; the reason of the signal */
  build(
    build: ContainerBuild,
    push: (run: (target: Omit<OutputTarget, 'known' | 'signal'>) => Promise<Pushed>) => Promise<Pushed>,
  ): Promise<Pushed>;
}

/** Removes what a dead predecessor left. */
export async function openContainerBuilder(options: ContainerBuilderOptions): Promise<ContainerBuilder> {
  const runs = join(options.folder, 'runs');
  await rm(runs, { recursive: true, force: true });
  await mkdir(runs, { recursive: true, mode: 0o700 });
  return {
    async build(build, push) {
      const rootfs = await ensureBuildRoot(options.folder);
      const folder = join(runs, build.id);
      const ids = claimIdRange(options.uidBase);
      try {
        await mkdir(folder, { mode: 0o700 });
        const known = new Map<string, KnownLayer>();
        for (const [index, image] of build.images.entries()) {
          const layers = await layOut(image, join(folder, 'images', String(index)), build.signal);
          for (const [diffId, layer] of layers) known.set(diffId, { image, layer });
        }
        await writeFile(join(folder, 'Containerfile'), build.text);
        // Read inside by a root that is nobody to the rest of this host.
        await chmod(build.context, 0o755);
        const id = createId('sbx');
        const owner = { config: { network: build.network }, onLine: build.onLine };
        await using network = await openBuildNetwork(options.networks, id, owner);
        await runBuildah({
          id,
          network,
          host: options.host,
          ids,
          rootfs,
          context: build.context,
          folder,
          images: build.images.map(({ name }) => name),
          args: build.args,
          target: build.target,
          signal: build.signal,
          onLine: build.onLine,
        });
        return await push((target) =>
          pushOutput(join(folder, 'out'), { ...target, known, signal: build.signal }),
        );
      } finally {
        await rm(folder, { recursive: true, force: true });
        ids.release();
      }
    },
  };
}
