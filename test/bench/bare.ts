/** The baselines that need no container: bare Node processes. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { firstByteMs, untilFirstByte } from './first-byte.ts';
import { pssBytes } from './memory.ts';

const APP = join(import.meta.dirname, 'apps', 'hono.mjs');

export function spawnBare(port: number): ChildProcess {
  return spawn(process.execPath, [APP], { env: { ...process.env, PORT: String(port) }, stdio: 'ignore' });
}

export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

/** B0: from the spawn of `node hono.mjs` to its first byte. */
export async function bareColdMs(port: number): Promise<number> {
  const started = performance.now();
  const child = spawnBare(port);
  try {
    return await untilFirstByte(started, port);
  } finally {
    await stop(child);
  }
}

/** B6: PSS of that process after one request. */
export async function barePssBytes(port: number): Promise<number> {
  const child = spawnBare(port);
  try {
    await untilFirstByte(performance.now(), port);
    await firstByteMs(port);
    return await pssBytes(child.pid as number);
  } finally {
    await stop(child);
  }
}

/** B5: how many `node -e 0` all cores together can start and end in a second. */
export async function spawnsPerSecond(seconds: number): Promise<number> {
  const deadline = performance.now() + seconds * 1000;
  let count = 0;
  const loop = async (): Promise<void> => {
    while (performance.now() < deadline) {
      const child = spawn(process.execPath, ['-e', '0'], { stdio: 'ignore' });
      await once(child, 'exit');
      count++;
    }
  };
  const started = performance.now();
  await Promise.all(cpus().map(loop));
  return count / ((performance.now() - started) / 1000);
}
