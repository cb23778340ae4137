/** The step of a build that pushes a function's image, whether its layers were just made or are there already. */
import type { Registry } from '../../infra/oci/registry.ts';
import type { Deployment } from '../../sdk/protocol/api.ts';
import type { FunctionConfig } from '../../sdk/protocol/manifest.ts';
import {
  EXPOSED_PORT,
  functionLabels,
  type FunctionImageInput,
  pushFunctionImage,
} from '../image/function-image.ts';
import type { Progress } from './progress.ts';

export interface PushedImage extends Pick<FunctionImageInput, 'functionName' | 'base' | 'layers' | 'entry'> {
  readonly config: Pick<FunctionConfig, 'env' | 'labels'>;
  /** What its code was built from, if that is known. */
  readonly source: Deployment['source'];
}

/** @throws SkiffError INVALID_SOURCE, NOT_FOUND, UNAVAILABLE: see pushFunctionImage */
export function pushImage(
  { registry, progress }: { readonly registry: Registry; readonly progress: Progress },
  { functionName, config, base, layers, entry, source }: PushedImage,
  describe: (image: Deployment['image']) => string,
): Promise<Deployment['image']> {
  const push = (): Promise<Deployment['image']> =>
    pushFunctionImage({
      registry,
      functionName,
      base,
      layers,
      entry,
      env: config.env,
      labels: functionLabels(functionName, config.labels, source?.digest),
      exposedPort: EXPOSED_PORT,
    });
  return progress.step('push', push, describe);
}
