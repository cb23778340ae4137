/**
 * Bodies that are too large for Redis: blobs of one repository of the registry, with a reference in the record.
 * Invariant: every blob begins with random bytes of its own, so two events never share one and removing one event's
 * body cannot take another's away.
 */
import { randomBytes } from 'node:crypto';
import { Readable, Transform } from 'node:stream';
import type { Redis } from 'ioredis';
import { payloadBlobs } from '../contract/keys.ts';
import { PAYLOAD_REPOSITORY } from '../contract/jobs.ts';
import type { Registry } from '../oci/registry.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { BlobReference } from './record.ts';

const SALT_BYTES = 16;

export interface Payloads {
  /**
   * Stores a body of at most `bytesMax`. It is removed some time after `keepMs`, unless `keep` is called.
   * @throws SkiffError BODY_TOO_LARGE, UNAVAILABLE
   */
  put(body: AsyncIterable<Uint8Array>, bytesMax: number, keepMs: number): Promise<BlobReference>;
  /** @throws SkiffError NOT_FOUND when it is not there. The stream fails when the bytes are not those that were stored. */
  open(blob: BlobReference): Promise<Readable>;
  /** Changes how long it is kept from now on. */
  keep(blob: BlobReference, ms: number): Promise<void>;
  /** Removes blobs whose time is over; returns how many. */
  sweep(countMax: number): Promise<number>;
}

export function openPayloads(registry: Registry, redis: Redis): Payloads {
  return {
    async put(body, bytesMax, keepMs) {
      let bytes = 0;
      async function* salted(): AsyncGenerator<Uint8Array> {
        yield randomBytes(SALT_BYTES);
        for await (const chunk of body) {
          bytes += chunk.length;
          if (bytes > bytesMax) {
            throw new SkiffError(
              'BODY_TOO_LARGE',
              `the body has more than ${bytesMax} bytes, which is the limit here`,
            );
          }
          yield chunk;
        }
      }
      const { digest } = await registry.pushBlob(
        PAYLOAD_REPOSITORY,
        Readable.from(salted(), { objectMode: false }),
      );
      await redis.zadd(payloadBlobs, Date.now() + keepMs, digest);
      return { digest, bytes };
    },

    async open({ digest, bytes }) {
      const stream = await registry.pullBlob(PAYLOAD_REPOSITORY, digest, { bytes: bytes + SALT_BYTES });
      return stream.compose(skip(SALT_BYTES)) as Readable;
    },

    async keep({ digest }, ms) {
      await redis.zadd(payloadBlobs, Date.now() + ms, digest);
    },

    async sweep(countMax) {
      const over = await redis.zrangebyscore(payloadBlobs, '-inf', Date.now(), 'LIMIT', 0, countMax);
      for (const digest of over) {
        await registry.deleteBlob(PAYLOAD_REPOSITORY, digest);
        await redis.zrem(payloadBlobs, digest);
      }
      return over.length;
    },
  };
}

function skip(bytes: number): Transform {
  let left = bytes;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      const dropped = Math.min(left, chunk.length);
      left -= dropped;
      done(null, chunk.subarray(dropped));
    },
  });
}
