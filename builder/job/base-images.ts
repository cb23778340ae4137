/**
 * Base images by runtime, assembled when first asked for, and their unpacked root file systems for installs.
 * Invariant: one assembly of a runtime at a time; a failed one is tried again by the next who asks.
 */
import type { Registry } from '../../infra/oci/registry.ts';
import type { LayerStore } from '../../infra/oci/store.ts';
import { type BaseImage, ensureBaseImage } from '../base/base-image.ts';

/** Where the base images have Node. */
const NODE_PATH = '/usr/bin/node';

export interface BaseImagesOptions {
  readonly registry: Registry;
  readonly store: LayerStore;
  /** Keeps downloads between runs. */
  readonly workDir: string;
  readonly onProgress: (runtime: string, line: string) => void;
}

export class BaseImages {
  readonly #options: BaseImagesOptions;
  readonly #images = new Map<string, Promise<BaseImage>>();

  constructor(options: BaseImagesOptions) {
    this.#options = options;
  }

  /** @throws SkiffError INVALID_CONFIG for a runtime without a base image, UNAVAILABLE when it cannot be assembled. */
  ensure(runtime: string): Promise<BaseImage> {
    const known = this.#images.get(runtime);
    if (known) return known;
    const { registry, workDir, onProgress } = this.#options;
    const image = ensureBaseImage({
      runtime,
      registry,
      workDir,
      onProgress: (line) => onProgress(runtime, line),
    });
    this.#images.set(runtime, image);
    image.catch(() => this.#images.delete(runtime));
    return image;
  }

  /** The registry lost an image that it had: ask it again. */
  forget(runtime: string): void {
    this.#images.delete(runtime);
  }

  async openRootfs(runtime: string): Promise<{ lowerDirs: string[]; node: string }> {
    const { reference } = await this.ensure(runtime);
    const { lowerDirs } = await this.#options.store.ensureRootfs(reference);
    return { lowerDirs, node: NODE_PATH };
  }
}
