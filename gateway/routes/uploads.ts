/** Source archives: streamed from the client into the registry, never held as a whole. */
import { Readable, Transform } from 'node:stream';
import { SOURCE_REPOSITORY } from '../../infra/contract/jobs.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { SOURCE_BYTES_MAX } from '../../sdk/protocol/limits.ts';
import type { GatewayParts } from '../parts.ts';
import type { Handlers } from './route.ts';

export function createUploadHandlers({ registry }: GatewayParts): Pick<Handlers, 'uploadSource'> {
  return {
    async uploadSource({ signal }, c) {
      const stated = c.req.header('content-length');
      if (stated !== undefined) assertSize(Number(stated));
      if (!c.req.raw.body) throw empty();
      const body = Readable.fromWeb(c.req.raw.body as Parameters<typeof Readable.fromWeb>[0], { signal });
      const { digest, bytes } = await registry.pushBlob(SOURCE_REPOSITORY, limit(body));
      return { digest, bytes };
    },
  };
}

/** Passes bytes on; fails past the limit, and at the end when there were none. */
function limit(body: Readable): Readable {
  let bytes = 0;
  const meter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      try {
        assertSize(bytes);
      } catch (error) {
        return done(error as Error);
      }
      done(null, chunk);
    },
    flush(done) {
      done(bytes === 0 ? empty() : null);
    },
  });
  // Not `pipeline`: its callback would only repeat what the reader of the meter gets as an error anyway.
  body.on('error', (cause) => meter.destroy(interrupted(cause)));
  meter.on('close', () => body.destroy());
  return body.pipe(meter);
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

function interrupted(cause: Error): SkiffError {
  return new SkiffError('BAD_REQUEST', 'the upload was cut off before its end', { cause });
}
