/**
 * Streams a blob and checks it on the way. Invariant: a reader that sees the stream's end has seen exactly the
 * bytes of the digest; anything else ends in an error. A broken connection is resumed by a Range request.
 */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { isNetworkFailure, unreachable, type Reply, type Transport } from './transport.ts';

export interface PullOptions {
  /** Size that the descriptor states; the stream fails as soon as it differs. */
  readonly bytes?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Breaks in a row without a single byte between them; 0: none is resumed at all. */
  readonly resumesMax?: number | undefined;
}

const FRUITLESS_RESUMES_MAX = 3;

export async function pullVerified(
  transport: Transport,
  repository: string,
  digest: string,
  options: PullOptions,
): Promise<Readable> {
  const open = (offset: number): Promise<Reply> =>
    transport.send({
      method: 'GET',
      path: `/v2/${repository}/blobs/${digest}`,
      scope: `repository:${repository}:pull`,
      expect: offset > 0 ? [200, 206] : [200],
      // A proxy that compresses would change the bytes under the digest.
      headers: { 'accept-encoding': 'identity', ...(offset > 0 ? { range: `bytes=${offset}-` } : {}) },
      signal: options.signal,
    });
  // The first answer is awaited here, so that an absent blob or registry rejects the call, not the stream.
  const first = await open(0);
  const stated = Number(first.headers['content-length'] ?? Number.NaN);
  if (options.bytes !== undefined && Number.isFinite(stated) && stated !== options.bytes) {
    first.body.on('error', () => {}).destroy();
    throw mismatch(repository, digest, `it has ${stated} bytes; its descriptor says ${options.bytes}`);
  }
  const bytes = options.bytes ?? (Number.isFinite(stated) ? stated : undefined);
  const resumesMax = options.resumesMax ?? FRUITLESS_RESUMES_MAX;
  const chunks = readVerified(transport, repository, digest, bytes, first, open, resumesMax);
  return Readable.from(chunks, { objectMode: false, highWaterMark: 256 * 1024 });
}

async function* readVerified(
  transport: Transport,
  repository: string,
  digest: string,
  bytes: number | undefined,
  first: Reply,
  open: (offset: number) => Promise<Reply>,
  resumesMax: number,
): AsyncGenerator<Buffer> {
  const hasher = createHash('sha256');
  let received = 0;
  let fruitless = 0;
  let reply: Reply | undefined = first;
  while (reply) {
    const before = received;
    try {
      for await (const chunk of skipTo(reply, received)) {
        received += chunk.length;
        if (bytes !== undefined && received > bytes)
          throw mismatch(repository, digest, `it is longer than ${bytes} bytes`);
        hasher.update(chunk);
        yield chunk;
      }
      break;
    } catch (error) {
      fruitless = received > before ? 0 : fruitless + 1;
      if (!isNetworkFailure(error)) throw error;
      if (resumesMax === 0 || fruitless > resumesMax) throw unreachable(transport.url, error);
    }
    reply = await open(received);
  }
  if (bytes !== undefined && received !== bytes) {
    throw mismatch(repository, digest, `it ended after ${received} of ${bytes} bytes`);
  }
  const actual = `sha256:${hasher.digest('hex')}`;
  if (actual !== digest) throw mismatch(repository, digest, `its bytes have digest ${actual}`);
}

/** Body from `offset` on, whether the server honoured the Range request or sent everything again. */
async function* skipTo(reply: Reply, offset: number): AsyncGenerator<Buffer> {
  let skip = offset;
  if (reply.statusCode === 206) {
    const start = /^bytes (\d+)-/.exec(String(reply.headers['content-range'] ?? ''))?.[1];
    if (Number(start) !== offset) {
      throw new SkiffError('UNAVAILABLE', `the registry answered range ${start ?? 'unknown'} for ${offset}`);
    }
    skip = 0;
  }
  for await (const chunk of reply.body as AsyncIterable<Buffer>) {
    if (skip >= chunk.length) skip -= chunk.length;
    else {
      yield skip > 0 ? chunk.subarray(skip) : chunk;
      skip = 0;
    }
  }
}

function mismatch(repository: string, digest: string, what: string): SkiffError {
  return new SkiffError(
    'INTERNAL',
    `blob ${repository}@${digest} was refused: ${what}; the registry's storage or the link is damaged`,
    {
      details: { digest, reason: 'digest_mismatch' },
    },
  );
}

export function isDigestMismatch(error: unknown): boolean {
  return error instanceof SkiffError && error.details?.['reason'] === 'digest_mismatch';
}
