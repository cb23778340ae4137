/** Time and disk of a sandbox that works for a build: the kernel limits the rest. */
import type { Sandbox } from '../../infra/sandbox/contract.ts';
import type { SkiffError } from '../../sdk/protocol/errors.ts';
import { tryMeasure } from './settle.ts';

export interface RunLimits {
  /** What it may write to. */
  readonly folder: string;
  readonly bytesMax: number;
  readonly msMax: number;
  readonly signal: AbortSignal;
  readonly tooLarge: () => SkiffError;
  readonly tooLong: () => SkiffError;
}

const MEASURE_MS = 1_000;

/** Kills the sandbox at a limit or the signal. Disk is looked at once a second, so a little more can be written. */
export function enforceLimits(
  sandbox: Sandbox,
  { folder, bytesMax, msMax, signal, tooLarge, tooLong }: RunLimits,
): { stop: () => void; failure: () => SkiffError | undefined } {
  let failure: SkiffError | undefined;
  let isMeasuring = false;
  const end = (error: SkiffError | undefined): void => {
    failure ??= error;
    sandbox.kill();
  };
  const onAbort = (): void => end(undefined);
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  const timeout = setTimeout(() => end(tooLong()), msMax);
  const measure = setInterval(() => {
    if (isMeasuring) return;
    isMeasuring = true;
    void tryMeasure(folder, bytesMax).then((bytes) => {
      isMeasuring = false;
      if (bytes === undefined) end(tooLarge());
    });
  }, MEASURE_MS);
  const stop = (): void => {
    clearTimeout(timeout);
    clearInterval(measure);
    signal.removeEventListener('abort', onAbort);
  };
  return { stop, failure: () => failure };
}
