/** Closed-loop load by wrk, which is on the same machine and part of every number. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface Load {
  readonly requestsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Socket errors and answers that are not 2xx or 3xx. */
  readonly errors: number;
}

export async function wrk(url: string, connections: number, seconds: number): Promise<Load> {
  const args = ['-t1', `-c${connections}`, `-d${seconds}s`, '--latency', url];
  const { stdout } = await run('wrk', args, { maxBuffer: 1 << 20 });
  const socketErrors = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(stdout);
  const statusErrors = /Non-2xx or 3xx responses: (\d+)/.exec(stdout);
  return {
    requestsPerSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]),
    p50Ms: parseMs(/50%\s+([\d.]+\w+)/.exec(stdout)?.[1]),
    p99Ms: parseMs(/99%\s+([\d.]+\w+)/.exec(stdout)?.[1]),
    errors:
      Number(statusErrors?.[1] ?? 0) +
      (socketErrors?.slice(1).reduce((sum, one) => sum + Number(one), 0) ?? 0),
  };
}

function parseMs(text: string | undefined): number {
  const match = /^([\d.]+)(us|ms|s)$/.exec(text ?? '');
  if (!match) return Number.NaN;
  return Number(match[1]) * { us: 0.001, ms: 1, s: 1000 }[match[2] as 'us' | 'ms' | 's'];
}
