/** Time to the first byte of an answer, over a plain socket: the least a client can cost. */
import { connect } from 'node:net';

/** Milliseconds from connect to the first byte. Rejects when nothing listens or the status is not 200. */
export function firstByteMs(port: number, path = '/', host = '127.0.0.1', headers = ''): Promise<number> {
  return new Promise((resolve, reject) => {
    const started = performance.now();
    const socket = connect(port, host);
    socket.on('connect', () =>
      socket.write(`GET ${path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n${headers}\r\n`),
    );
    socket.once('data', (chunk) => {
      const ms = performance.now() - started;
      const line = chunk.toString('latin1', 0, 15);
      socket.destroy();
      if (line.startsWith('HTTP/1.1 200')) resolve(ms);
      else reject(new Error(`answer "${chunk.toString('latin1', 0, 400)}"`));
    });
    socket.on('error', reject);
    socket.on('end', () => reject(new Error('closed without an answer')));
  });
}

/** Tries again each millisecond until something answers; milliseconds since `started` (performance.now()). */
export async function untilFirstByte(
  started: number,
  port: number,
  limitMs = 20_000,
  host = '127.0.0.1',
): Promise<number> {
  for (;;) {
    try {
      await firstByteMs(port, '/', host);
      return performance.now() - started;
    } catch (error) {
      if (performance.now() - started > limitMs) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}
