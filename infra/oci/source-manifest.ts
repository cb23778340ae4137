/**
 * A manifest around an uploaded source, so that it can be listed and collected as images are: a registry frees only
 * what no manifest names. Its tag is the source's own digest.
 */
import { SOURCE_REPOSITORY } from '../contract/jobs.ts';
import { digestOf } from './digest.ts';
import { MEDIA } from './manifest.ts';
import type { Registry } from './registry.ts';

const CONFIG = Buffer.from('{}');

/** The tag of a source. */
export function sourceTag(digest: string): string {
  return digest.slice('sha256:'.length);
}

/** The blob must be there. Doing it again changes nothing. */
export async function keepSource(
  registry: Registry,
  source: { digest: string; bytes: number },
): Promise<void> {
  await registry.pushBlob(SOURCE_REPOSITORY, CONFIG);
  const manifest = {
    schemaVersion: 2,
    mediaType: MEDIA.ociManifest,
    config: { mediaType: MEDIA.ociConfig, digest: digestOf(CONFIG), size: CONFIG.length },
    layers: [{ mediaType: MEDIA.ociLayer, digest: source.digest, size: source.bytes }],
  };
  const bytes = Buffer.from(JSON.stringify(manifest));
  await registry.putManifest(SOURCE_REPOSITORY, bytes, MEDIA.ociManifest, sourceTag(source.digest));
}
