/**
 * Base images by runtime, assembled when first asked for, and their unpacked root file systems for installs.
 * Invariant: one assembly of a runtime at a time; a failed one is tried again by the next who asks.
 */
import { parseReference } from '../../infra/oci/digest.ts';
import type { Registry } from '../../infra/oci/registry.ts';
import type { LayerStore } from '../../infra/oci/store.ts';
import { type BaseImage, ensureBaseImage } from '../base/base-image.ts';

export interface BaseImagesOptions {
  readonly registry: Registry;
  readonly store: LayerStore;
  /** Keeps downloads between runs. */
  readonly workDir: string;
  /** npm's own folder on this host. */
  readonly npmFolder: string;
  readonly onProgress: (runtime: string, line: string) => void;
}

/** How long a base image is believed to be in the registry without asking. */
const TRUSTED_MS = 30_000;

export class BaseImages {
  readonly #options: BaseImagesOptions;
  readonly #images = new Map<string, Promise<BaseImage>>();
  readonly #seenMs = new Map<string, number>();

  constructor(options: BaseImagesOptions) {
    this.#options = options;
  }

  /** @throws SkiffError INVALID_CONFIG for a runtime without a base image, UNAVAILABLE when it cannot be assembled. */
  async ensure(runtime: string): Promise<BaseImage> {
    const known = this.#images.get(runtime);
    if (!known) return this.#assemble(runtime);
    const image = await known;
    if ((this.#seenMs.get(runtime) ?? 0) + TRUSTED_MS > Date.now()) return image;
    // The registry may have been emptied since: asking costs a millisecond, building on nothing a failed deploy.
    const { repository, digest } = parseReference(image.reference);
    if ((await this.#options.registry.headManifest(repository, digest)) === undefined)
      return this.#assemble(runtime);
    this.#seenMs.set(runtime, Date.now());
    return image;
  }

  async openRootfs(runtime: string): Promise<{ lowerDirs: string[] }> {
    const { reference } = await this.ensure(runtime);
    const { lowerDirs } = await this.#options.store.ensureRootfs(reference);
    return { lowerDirs };
  }

  #assemble(runtime: string): Promise<BaseImage> {
    const { registry, workDir, npmFolder, onProgress } = this.#options;
    const image = ensureBaseImage({
      runtime,
      registry,
      workDir,
      npmFolder,
      onProgress: (line) => onProgress(runtime, line),
    });
    this.#images.set(runtime, image);
    image.then(
      () => this.#seenMs.set(runtime, Date.now()),
      () => this.#images.delete(runtime),
    );
    return image;
  }
}
