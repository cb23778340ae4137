/** What the invoker reports about each call, as metrics. On the hot path a call costs two additions. */
import type { Metrics } from '../infra/lib/metrics.ts';
import type { FailureCause } from '../sdk/protocol/errors.ts';
import type { Call } from './invoke/call.ts';

export type CallReporter = (call: Call, cause: FailureCause | undefined) => void;

interface Bound {
  readonly count: () => void;
  readonly observe: (seconds: number) => void;
}

/** Functions come and go; beyond this many the look-up is made anew each time. */
const BOUND_MAX = 10_000;

export function createCallReporter(metrics: Metrics, readInFlight: () => number): CallReporter {
  const calls = metrics.counter(
    'skiff_invocations_total',
    'Invocations that ended, by cause ("ok" for none).',
  );
  const cold = metrics.counter('skiff_cold_starts_total', 'Invocations that waited for a sandbox to start.');
  const seconds = metrics.histogram('skiff_invocation_seconds', 'From the request to the end of the answer.');
  metrics.gauge('skiff_invocations_in_flight', 'Invocations that have begun and not ended.', readInFlight);
  const bound = new Map<string, Bound>();

  function bind(name: string): Bound {
    const known = bound.get(name);
    if (known) return known;
    const labels = { function: name };
    const made = { count: calls.bind({ ...labels, cause: 'ok' }), observe: seconds.bind(labels) };
    if (bound.size < BOUND_MAX) bound.set(name, made);
    return made;
  }

  return ({ deployment: { functionName }, receivedMs, timing }, cause) => {
    const { count, observe } = bind(functionName);
    if (cause === undefined) count();
    else calls.add({ function: functionName, cause });
    if (timing && timing.coldMs > 0) cold.add({ function: functionName });
    observe((Date.now() - receivedMs) / 1000);
  };
}
