/** Source archives: streamed from the client into the registry, never held as a whole. */
import { Readable } from 'node:stream';
import { SOURCE_REPOSITORY } from '../../infra/contract/jobs.ts';
import { keepSource } from '../../infra/oci/source-manifest.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { SOURCE_BYTES_MAX } from '../../sdk/protocol/limits.ts';
import type { GatewayParts } from '../parts.ts';
import type { Handlers } from './route.ts';

export function createUploadHandlers({ registry }: GatewayParts): Pick<Handlers, 'uploadSource'> {
  return {
    async uploadSource(_input, c) {
      const stated = c.req.header('content-length');
      if (stated !== undefined) assertSize(Number(stated));
      if (!c.req.raw.body) throw empty();
      const source = Readable.from(limit(c.req.raw.body), { objectMode: false });
      const { digest, bytes } = await registry.pushBlob(SOURCE_REPOSITORY, source);
      await keepSource(registry, { digest, bytes });
      return { digest, bytes };
    },
  };
}

/**
 * Passes bytes on; fails past the limit, and at the end when there were none. A generator, not a Transform: it begins
 * when the registry begins to read, so that it cannot fail while nobody listens for its error.
 */
async function* limit(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  let bytes = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((cause: unknown) => {
        throw new SkiffError('BAD_REQUEST', 'the upload was cut off before its end', { cause });
      });
      if (done) break;
      bytes += value.length;
      assertSize(bytes);
      yield value;
    }
    if (bytes === 0) throw empty();
  } finally {
    void reader.cancel().catch(() => {});
  }
}

function assertSize(bytes: number): void {
  if (!(bytes > SOURCE_BYTES_MAX)) return;
  const limitMb = SOURCE_BYTES_MAX / 1024 ** 2;
  throw new SkiffError(
    'BODY_TOO_LARGE',
    `the source has more than ${limitMb} MB, which is the limit; leave out node_modules, build output and data`,
  );
}

function empty(): SkiffError {
  return new SkiffError('BAD_REQUEST', 'the body is empty; send a tar archive');
}
