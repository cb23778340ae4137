/**
 * Uploads a blob. Buffers and files go in one request (their digest is known first), streams go through as they
 * come and are named at the end. Invariant: a failed upload is cancelled, so nothing half-made stays in the registry.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { digestOf } from '../digest.ts';
import { refused, readLimited } from './auth.ts';
import type { Reply, Transport } from './transport.ts';

export type BlobSource = Buffer | Readable | { readonly file: string };

export interface PushedBlob {
  readonly digest: string;
  readonly bytes: number;
  /** False when the registry already had it. */
  readonly isNew: boolean;
}

/** Size of the blob, undefined when the repository does not have it. */
export async function headBlob(
  transport: Transport,
  repository: string,
  digest: string,
): Promise<number | undefined> {
  const reply = await transport.send({
    method: 'HEAD',
    path: `/v2/${repository}/blobs/${digest}`,
    scope: `repository:${repository}:pull`,
    expect: [200, 404],
  });
  await reply.body.dump();
  return reply.statusCode === 200 ? Number(reply.headers['content-length'] ?? 0) : undefined;
}

/** Makes a blob of another repository one of this repository's. False when the registry would not. */
export async function mountBlob(
  transport: Transport,
  repository: string,
  digest: string,
  from: string,
): Promise<boolean> {
  const reply = await transport.send({
    method: 'POST',
    path: `/v2/${repository}/blobs/uploads/?mount=${digest}&from=${encodeURIComponent(from)}`,
    scope: pushScope(repository),
    expect: [201, 202],
  });
  await reply.body.dump();
  // 202 means: no such blob there, here is an upload instead. It is not wanted.
  if (reply.statusCode === 202) await cancelUpload(transport, repository, uploadPath(transport, reply));
  return reply.statusCode === 201;
}

export async function pushBytes(
  transport: Transport,
  repository: string,
  bytes: Buffer,
): Promise<PushedBlob> {
  const digest = digestOf(bytes);
  if ((await headBlob(transport, repository, digest)) !== undefined)
    return { digest, bytes: bytes.length, isNew: false };
  await uploadWhole(transport, repository, digest, bytes.length, bytes);
  return { digest, bytes: bytes.length, isNew: true };
}

export async function pushFile(transport: Transport, repository: string, file: string): Promise<PushedBlob> {
  const hasher = createHash('sha256');
  for await (const chunk of readFile(file)) hasher.update(chunk);
  const digest = `sha256:${hasher.digest('hex')}`;
  const { size } = await stat(file);
  if ((await headBlob(transport, repository, digest)) !== undefined)
    return { digest, bytes: size, isNew: false };
  // The registry checks the digest again, so a file that changed meanwhile is refused there.
  await uploadWhole(transport, repository, digest, size, readFile(file));
  return { digest, bytes: size, isNew: true };
}

/** Opens the file only when it is read, so that a request that fails before leaves nothing open. */
async function* readFile(file: string): AsyncGenerator<Buffer> {
  yield* createReadStream(file, { highWaterMark: 256 * 1024 }) as AsyncIterable<Buffer>;
}

/**
 * Streams a source of unknown length. With `digest` the bytes must have it, also when the registry has the blob
 * already: then they are read and checked but not sent.
 */
export async function pushStream(
  transport: Transport,
  repository: string,
  source: Readable,
  digest: string | undefined,
): Promise<PushedBlob> {
  const meter = createMeter(source);
  try {
    if (digest !== undefined && (await headBlob(transport, repository, digest)) !== undefined) {
      for await (const chunk of meter.chunks) void chunk;
      meter.assertWhole();
      return { digest: assertDigest(meter.digest(), digest), bytes: meter.bytes(), isNew: false };
    }
    const upload = await startUpload(transport, repository);
    return await cancelOnFailure(transport, repository, upload, async () => {
      const patched = await transport.send({
        method: 'PATCH',
        path: upload.path,
        scope: pushScope(repository),
        expect: [202],
        headers: { 'content-type': 'application/octet-stream' },
        body: meter.chunks,
      });
      await patched.body.dump();
      upload.path = uploadPath(transport, patched);
      meter.assertWhole();
      const actual = assertDigest(meter.digest(), digest);
      await commitUpload(transport, repository, upload.path, actual);
      return { digest: actual, bytes: meter.bytes(), isNew: true };
    });
  } finally {
    source.destroy();
  }
}

function createMeter(source: Readable) {
  const hasher = createHash('sha256');
  let bytes = 0;
  let failure: unknown;
  async function* read(): AsyncGenerator<Buffer> {
    try {
      for await (const chunk of source as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        hasher.update(chunk);
        yield chunk;
      }
    } catch (error) {
      // Ends the body instead of breaking the request: only an upload that was answered can be cancelled.
      failure = error;
    }
  }
  return {
    chunks: read(),
    bytes: () => bytes,
    /** Throws the source's own failure (a limit, a client that left). */
    assertWhole: () => {
      if (failure !== undefined) throw failure;
    },
    digest: () => `sha256:${hasher.digest('hex')}`,
  };
}

function assertDigest(actual: string, stated: string | undefined): string {
  if (stated === undefined || stated === actual) return actual;
  throw new SkiffError(
    'INVALID_SOURCE',
    `the bytes have digest ${actual}, not ${stated} as stated; send them again`,
  );
}

async function uploadWhole(
  transport: Transport,
  repository: string,
  digest: string,
  bytes: number,
  body: Buffer | AsyncIterable<Uint8Array>,
): Promise<void> {
  const upload = await startUpload(transport, repository);
  await cancelOnFailure(transport, repository, upload, () =>
    commitUpload(transport, repository, upload.path, digest, body, bytes),
  );
}

/** Where an upload continues: the registry's last answer, since the address holds how far it is. */
interface Upload {
  path: string;
}

async function startUpload(transport: Transport, repository: string): Promise<Upload> {
  const reply = await transport.send({
    method: 'POST',
    path: `/v2/${repository}/blobs/uploads/`,
    scope: pushScope(repository),
    expect: [202],
  });
  await reply.body.dump();
  return { path: uploadPath(transport, reply) };
}

async function commitUpload(
  transport: Transport,
  repository: string,
  upload: string,
  digest: string,
  body: Buffer | AsyncIterable<Uint8Array> = Buffer.alloc(0),
  bytes = 0,
): Promise<void> {
  const reply = await transport.send({
    method: 'PUT',
    path: `${upload}${upload.includes('?') ? '&' : '?'}digest=${encodeURIComponent(digest)}`,
    scope: pushScope(repository),
    expect: [201, 204],
    headers: { 'content-type': 'application/octet-stream', 'content-length': String(bytes) },
    body,
  });
  await readLimited(reply.body, 64 * 1024);
  const stated = reply.headers['docker-content-digest'];
  if (typeof stated === 'string' && stated !== digest) {
    throw new SkiffError('INTERNAL', `registry ${transport.url.origin} stored ${digest} as ${stated}`);
  }
}

async function cancelOnFailure<T>(
  transport: Transport,
  repository: string,
  upload: Upload,
  run: () => Promise<T>,
): Promise<T> {
  try {
    return await run();
  } catch (error) {
    await cancelUpload(transport, repository, upload.path);
    throw error;
  }
}

/** Best effort: the registry forgets abandoned uploads by itself after a while (its `uploadpurging`). */
async function cancelUpload(transport: Transport, repository: string, upload: string): Promise<void> {
  const scope = pushScope(repository);
  const expect = [200, 202, 204, 404, 405];
  await transport.send({ method: 'DELETE', path: upload, scope, expect }).then(
    (reply) => reply.body.dump(),
    () => {},
  );
}

function pushScope(repository: string): string {
  return `repository:${repository}:pull,push`;
}

/** Where an upload continues: always at our registry, whatever scheme a proxy in front of it made it believe. */
function uploadPath(transport: Transport, reply: Reply): string {
  const location = String(reply.headers['location'] ?? '');
  const url = URL.canParse(location, transport.url) ? new URL(location, transport.url) : undefined;
  if (!url || url.hostname !== transport.url.hostname)
    throw refused(transport.url, 'it sends uploads to another host');
  return url.pathname + url.search;
}
