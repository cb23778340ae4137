/**
 * How a base image's guest is started. The command is ours, never the image's: a function cannot change how its
 * runtime boots.
 */
import type { FunctionConfig } from '../../sdk/protocol/manifest.ts';

const MB = 1024 ** 2;

/** V8's old space: three quarters of the limit, the rest is for buffers, code, stacks and the young generation. */
export function heapMb(memoryBytes: number): number {
  return Math.max(32, Math.floor((memoryBytes / MB) * 0.75));
}

export function guestCommand(runtime: FunctionConfig['runtime'], memoryBytes: number): string[] {
  const [kind] = runtime.split(':');
  switch (kind) {
    case 'node':
      return ['/usr/bin/node', `--max-old-space-size=${heapMb(memoryBytes)}`, '/skiff/guest.cjs'];
    case 'bun':
      return ['/usr/bin/bun', '/skiff/guest.cjs'];
    case 'deno':
      return ['/usr/bin/deno', 'run', '-A', '/skiff/guest.cjs'];
    case 'python':
      return ['/usr/bin/python3', '/skiff/guest.py'];
    default:
      throw new Error(`runtime ${runtime} has no guest`);
  }
}

export const GUEST_ENV: Readonly<Record<string, string>> = {
  PATH: '/usr/local/bin:/usr/bin:/bin',
  HOME: '/tmp',
  TMPDIR: '/tmp',
  LANG: 'C.UTF-8',
};
