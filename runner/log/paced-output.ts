/**
 * Reads what a sandbox writes to its output, at most OUTPUT_BYTES_PER_SECOND_MAX of it: over that the writer waits.
 * Reading a flood at memory speed only to drop it would take the processor from everybody's calls.
 */
import type { Readable } from 'node:stream';
import { OUTPUT_BYTES_PER_SECOND_MAX } from '../../sdk/protocol/limits.ts';

const WINDOW_MS = 1_000;

export function readPaced(stream: Readable, onChunk: (chunk: Buffer) => void): void {
  let windowMs = 0;
  let bytes = 0;
  stream.on('data', (chunk: Buffer) => {
    const now = Date.now();
    if (now - windowMs >= WINDOW_MS) {
      windowMs = now;
      bytes = 0;
    }
    bytes += chunk.length;
    onChunk(chunk);
    if (bytes < OUTPUT_BYTES_PER_SECOND_MAX) return;
    stream.pause();
    setTimeout(() => stream.resume(), windowMs + WINDOW_MS - now).unref();
  });
  // The sandbox's end is seen elsewhere; a broken pipe is no news.
  stream.on('error', () => {});
}
