/** Bodies as they come in: a small one is held whole, of a larger one no more than what decides that it is. */
import { createHash } from 'node:crypto';
import { EVENT_INLINE_BYTES_MAX } from '../../../sdk/protocol/limits.ts';

export type EventBody =
  | { readonly kind: 'whole'; readonly bytes: Buffer }
  | { readonly kind: 'stream'; readonly stream: AsyncIterable<Uint8Array> };

export function digestOf(body: Buffer): string {
  return createHash('sha256').update(body).digest('hex');
}

export async function splitBody(body: Buffer | AsyncIterable<Uint8Array>): Promise<EventBody> {
  if (Buffer.isBuffer(body)) {
    if (body.length <= EVENT_INLINE_BYTES_MAX) return { kind: 'whole', bytes: body };
    return { kind: 'stream', stream: iterate([body]) };
  }
  const iterator = body[Symbol.asyncIterator]();
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  while (bytes <= EVENT_INLINE_BYTES_MAX) {
    const { done, value } = await iterator.next();
    if (done) return { kind: 'whole', bytes: Buffer.concat(chunks) };
    chunks.push(value);
    bytes += value.length;
  }
  return { kind: 'stream', stream: iterate(chunks, iterator) };
}

async function* iterate(
  chunks: readonly Uint8Array[],
  rest?: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  try {
    yield* chunks;
    while (rest) {
      const { done, value } = await rest.next();
      if (done) return;
      yield value;
    }
  } finally {
    await rest?.return?.();
  }
}
