/**
 * `GET /v1/traces/{id}`: one invocation as spans. Made from what is kept anyway: this gateway's last calls, and the
 * record of an asynchronous invocation. Deliberately absent: a store of traces (that is what OpenTelemetry is for).
 */
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { InvocationRecord } from '../../sdk/protocol/events.ts';
import type { NodeRecord, Trace, TraceSpan } from '../../sdk/protocol/api.ts';
import type { GatewayParts } from '../parts.ts';
import type { Handlers } from '../routes/route.ts';
import type { CallMemory } from '../swarm/call-history.ts';
import { listNodes } from '../swarm/nodes.ts';

const SPANS_MAX = 200;

export function createTraceHandlers(parts: GatewayParts): Pick<Handlers, 'readTrace' | 'listCalls'> {
  return {
    async listCalls({ query }) {
      const { function: name, only, limit } = query;
      const names = await readHostNames(parts);
      const calls = parts.swarm.listCalls(
        (call) =>
          (name === undefined || call.functionName === name) && (only === undefined || IS[only](call)),
        limit,
      );
      return { calls: calls.map((call) => describeCall(call, names)) };
    },

    async readTrace({ id }) {
      const call = parts.swarm.recall(id);
      const record = call ? undefined : await parts.events.store.get(id);
      if (!call && !record) {
        throw new SkiffError(
          'NOT_FOUND',
          `nothing is known of ${id}: a gateway keeps its last calls, and others keep theirs`,
        );
      }
      const names = await readHostNames(parts);
      if (record) return describeRecord(record, names);
      const calls = [call as CallMemory, ...parts.swarm.recallCalls(id, SPANS_MAX)];
      const spans = calls.map((one) => describeCall(one, names)).toSorted((a, b) => a.startMs - b.startMs);
      return { id, spans };
    },
  };
}

const IS = {
  failed: ({ cause, status }: CallMemory) => cause !== undefined || status >= 500,
  cold: ({ timing }: CallMemory) => timing !== undefined && timing.coldMs > 0,
} as const;

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

function describeRecord(record: InvocationRecord, names: HostNames): Trace {
  const spans = record.attempts.map((attempt): TraceSpan => {
    const { number, startedMs, endedMs, outcome, status, message, deployment, runner } = attempt;
    return {
      id: record.id,
      functionName: record.functionName,
      ...(deployment !== undefined && { deployment }),
      ...(runner !== undefined && { node: names.get(runner) ?? runner }),
      attempt: number,
      startMs: startedMs,
      ...(endedMs !== undefined && { ms: endedMs - startedMs }),
      ...(status !== undefined && { status }),
      ...(outcome !== undefined && outcome !== 'ok' && { cause: outcome }),
      ...(message !== undefined && { detail: message }),
    };
  });
  return { id: record.id, acceptedMs: record.acceptedMs, state: record.state, spans };
}
