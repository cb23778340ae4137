/**
 * `GET /v1/traces/{id}`: one invocation as spans. Made from what is kept anyway: the last calls of all gateways, and
 * the record and steps of an asynchronous invocation. Deliberately absent: a store of traces (that is what OpenTelemetry is for).
 */
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { InvocationRecord } from '../../sdk/protocol/events.ts';
import type { NodeRecord, TraceSpan } from '../../sdk/protocol/api.ts';
import { owns } from '../middleware/auth.ts';
import type { GatewayParts } from '../parts.ts';
import type { Handlers } from '../routes/route.ts';
import type { CallMemory } from '../swarm/call-history.ts';
import { listNodes } from '../swarm/nodes.ts';

const SPANS_MAX = 200;
/** Between the store's clock, which dates attempts, and ours. */
const CLOCKS_MS = 50;

export function createTraceHandlers(parts: GatewayParts): Pick<Handlers, 'readTrace' | 'listCalls'> {
  return {
    async listCalls({ query }, c) {
      const names = await readHostNames(parts);
      const calls = await parts.swarm.calls.ask(query);
      const own = calls.filter(({ functionName }) => owns(c.var.token, functionName));
      const newest = own.toSorted((a, b) => b.receivedMs - a.receivedMs).slice(0, query.limit);
      return { calls: newest.map((call) => describeCall(call, names)) };
    },

    async readTrace({ id }, c) {
      const family = await parts.swarm.calls.findFamily(id);
      const record = await parts.events.store.get(id);
      const own = family.filter((call) => call.id === id);
      const name = record?.functionName ?? own[0]?.functionName;
      if (name === undefined || !owns(c.var.token, name)) {
        throw new SkiffError(
          'NOT_FOUND',
          `nothing is known of ${id}: gateways keep their last calls, and asynchronous invocations for some days`,
        );
      }
      const names = await readHostNames(parts);
      const calls = (record ? family.filter((call) => call.id !== id) : family).slice(0, SPANS_MAX);
      const spans = calls.map((one) => describeCall(one, names));
      if (!record) return { id, spans };
      const steps = await parts.events.steps.list(id);
      return {
        id,
        acceptedMs: record.acceptedMs,
        state: record.state,
        spans: [...describeAttempts(record, own, names), ...spans],
        ...(steps.length > 0 && { steps: steps.toSorted((a, b) => (a.atMs ?? 0) - (b.atMs ?? 0)) }),
      };
    },
  };
}

async function readHostNames({ fast, swarm }: GatewayParts): Promise<HostNames> {
  const nodes = await listNodes(fast, swarm.members).catch(() => []);
  return new Map(nodes.map((node: NodeRecord) => [node.id, node.hostname]));
}

type HostNames = ReadonlyMap<string, string>;

function describeCall(call: CallMemory, names: HostNames): TraceSpan {
  const { id, parent, functionName, deployment, runner, receivedMs, ms, timing, status, cause, detail } =
    call;
  return {
    id,
    ...(parent !== undefined && { parent }),
    functionName,
    deployment,
    ...(runner !== undefined && { node: names.get(runner) ?? runner }),
    startMs: receivedMs,
    ms,
    ...timing,
    // Nothing was answered to a caller who had gone.
    ...(status > 0 && { status }),
    ...(cause !== undefined && { cause }),
    ...(detail !== undefined && { detail }),
  };
}

/** The record has all of them, and for long; where the time of one went knows the process that ran it, for a while. */
function describeAttempts(
  { id, functionName, attempts }: InvocationRecord,
  runs: readonly CallMemory[],
  names: HostNames,
): TraceSpan[] {
  return attempts.map((attempt): TraceSpan => {
    const { number, startedMs, endedMs, outcome, status, message, deployment, runner } = attempt;
    const untilMs = endedMs ?? Number.POSITIVE_INFINITY;
    const run = runs.find(({ receivedMs }) => receivedMs >= startedMs - CLOCKS_MS && receivedMs <= untilMs);
    return {
      id,
      functionName,
      ...(deployment !== undefined && { deployment }),
      ...(runner !== undefined && { node: names.get(runner) ?? runner }),
      attempt: number,
      startMs: startedMs,
      ...(endedMs !== undefined && { ms: endedMs - startedMs }),
      ...run?.timing,
      ...(status !== undefined && { status }),
      ...(outcome !== undefined && outcome !== 'ok' && { cause: outcome }),
      ...(message !== undefined && { detail: message }),
    };
  });
}
