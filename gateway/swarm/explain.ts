/**
 * `skiff explain`: one sentence on a function or a call. Of a function: why its next call would be warm, cold, waiting
 * or refused, from the queues as they are. Of a call: what happened to it, from this gateway's memory (others do not
 * know it).
 */
import type { Redis } from 'ioredis';
import { cellsOf } from '../../infra/lib/redis.ts';
import { replicaDeployment } from '../../infra/contract/jobs.ts';
import type { Deployment, NodeRecord } from '../../sdk/protocol/api.ts';
import { findUnmet } from '../../sdk/protocol/swarm/constraint.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { isId } from '../../sdk/protocol/ids.ts';
import { QUEUE_DEPTH_MAX } from '../../sdk/protocol/limits.ts';
import { type Explanation, isFit } from '../../sdk/protocol/swarm/resources.ts';
import { owns } from '../middleware/auth.ts';
import type { GatewayParts } from '../parts.ts';
import { functionNotFound } from '../routes/links.ts';
import type { Handlers } from '../routes/route.ts';
import type { CallMemory } from './call-history.ts';
import { listNodes } from './nodes.ts';

export function createExplainHandlers(parts: GatewayParts): Pick<Handlers, 'explain'> {
  return {
    async explain({ subject }, c) {
      const isCall = isId('inv', subject);
      const name = isCall ? parts.swarm.recall(subject)?.functionName : subject;
      if (name !== undefined && !owns(c.var.token, name))
        throw isCall ? forgotten(subject) : functionNotFound(subject);
      return isCall ? explainCall(parts, subject) : explainFunction(parts, subject);
    },
  };
}

const forgotten = (id: string): SkiffError =>
  new SkiffError(
    'NOT_FOUND',
    `this gateway does not remember ${id}: it keeps its last calls, and other gateways keep theirs`,
  );

async function explainCall(parts: GatewayParts, id: string): Promise<Explanation> {
  const call = parts.swarm.recall(id);
  if (!call) throw forgotten(id);
  const nodes = await listNodes(parts.fast, parts.swarm.members).catch(() => []);
  const node = nodes.find((one) => one.id === call.runner);
  return { subject: id, sentence: describeCall(call, node), facts: { ...call } };
}

const ms = (value: number): string => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;

function describeCall(call: CallMemory, node: NodeRecord | undefined): string {
  const { timing, cause, detail, functionName } = call;
  const where = call.runner === undefined ? '' : ` on ${node?.hostname ?? call.runner} (${call.runner})`;
  if (cause !== undefined && !timing)
    return `The call of "${functionName}" did not run${where}: ${detail ?? cause}.`;
  const path =
    timing && timing.coldMs > 0
      ? `was cold: no slot was free, so it waited ${ms(timing.queueMs)} and a sandbox was started for it in ${ms(timing.coldMs)}`
      : timing && timing.queueMs > 5
        ? `waited ${ms(timing.queueMs)} for a slot of a sandbox that was busy`
        : call.isLeased
          ? 'was warm: this gateway held a slot of a running sandbox'
          : 'was warm: a slot of a running sandbox was free';
  const again =
    call.dispatches > 1 ? `, after ${call.dispatches - 1} other attempts that did not start it` : '';
  const end =
    cause === undefined ? '' : `; it ended with ${cause}${detail === undefined ? '' : ` (${detail})`}`;
  return `The call of "${functionName}" ${path}${again}, and ran${where} for ${ms(timing?.execMs ?? call.ms)}${end}.`;
}

interface Queues {
  readonly idle: number;
  readonly waiting: number;
  readonly starting: number;
  readonly live: readonly string[];
}

async function readQueues(fast: Redis, deployment: string): Promise<Queues> {
  const now = Date.now();
  const keys = cellsOf(fast).ofId(deployment).fast;
  const replies = await fast
    .pipeline()
    .llen(keys.idle(deployment))
    .llen(keys.wait(deployment))
    .zcount(keys.starting(deployment), now, '+inf')
    .zrangebyscore(keys.live(deployment), now, '+inf')
    .exec();
  const values = (replies ?? []).map(([error, value]) => {
    if (error) throw error;
    return value;
  });
  const [idle, waiting, starting, live] = values as [number, number, number, string[]];
  return { idle, waiting, starting, live };
}

async function explainFunction(parts: GatewayParts, name: string): Promise<Explanation> {
  const route = await parts.catalog.resolveRoute(name);
  const service = route ? undefined : await parts.swarm.services.get(name);
  const deployment = route
    ? route.targets[0]?.deployment
    : service && (await parts.catalog.getDeployment(service.spec.deployment));
  if (!deployment) throw functionNotFound(name);
  const pool = service ? replicaDeployment(deployment.id, service.name) : deployment.id;
  const [queues, known] = await Promise.all([
    readQueues(parts.fast, pool),
    listNodes(parts.fast, parts.swarm.members),
  ]);
  const nodes = known.filter(({ status }) => status !== 'down');
  const sentence = describeFunction(name, deployment, queues, nodes, service !== undefined);
  return {
    subject: name,
    sentence,
    facts: { deployment: pool, ...queues, nodes: nodes.map(({ id }) => id) },
  };
}

function describeFunction(
  name: string,
  deployment: Deployment,
  queues: Queues,
  nodes: readonly NodeRecord[],
  isService: boolean,
): string {
  const { config } = deployment;
  const active = nodes.filter(({ availability }) => availability === 'active');
  const able = active.filter((node) => isFit(node) && !findUnmet(config.constraints, node));
  const roomy = able.filter(({ capacity, used }) => capacity.memoryBytes - used.memoryBytes >= config.memory);
  const { idle, waiting, starting, live } = queues;
  if (waiting >= QUEUE_DEPTH_MAX)
    return `"${name}" refuses calls (429): ${waiting} are waiting, which is the limit.`;
  if (idle > 0)
    return `"${name}" is warm: ${count(idle, 'slot')} of ${count(live.length, 'sandbox', 'sandboxes')} on ${describePlaces(live, nodes)} ${idle === 1 ? 'is' : 'are'} free.`;
  if (live.length > 0 && waiting === 0)
    return `"${name}" is warm: its ${count(live.length, 'sandbox', 'sandboxes')} on ${describePlaces(live, nodes)} ${live.length === 1 ? 'is' : 'are'} busy or lent to gateways, and nothing waits.`;
  if (live.length >= config.max)
    return `${count(waiting, 'call')} of "${name}" wait: it has ${count(live.length, 'sandbox', 'sandboxes')}, which is its maximum, and all slots are busy.`;
  if (nodes.length === 0) return `"${name}" cannot start: no node is up.`;
  if (active.length === 0)
    return `"${name}" cannot start: ${nodes.length === 1 ? 'the one node is' : `all ${nodes.length} nodes are`} paused or drained.`;
  const broken = active.filter((node) => !isFit(node));
  if (broken.length === active.length)
    return `"${name}" cannot start: no invocation passes through ${active.length === 1 ? 'the one active node' : `any of the ${active.length} active nodes`} (${describeHealth(active[0])}).`;
  if (able.length === 0)
    return `"${name}" cannot start: no active node${broken.length > 0 ? ' that is ready' : ''} satisfies ${config.constraints.join(' and ')}.`;
  if (starting > 0)
    return `"${name}" is starting: ${count(starting, 'sandbox', 'sandboxes')} on the way, ${count(waiting, 'call')} waiting.`;
  if (isService) return `"${name}" has no running replica; its calls wait until one runs.`;
  if (roomy.length === 0)
    return `"${name}" is cold, and its next call must wait: no node has ${config.memory} bytes free, so an idle sandbox must end first.`;
  return `"${name}" is cold: it has no sandbox, and its next call starts one on ${able.length === 1 ? (able[0]?.hostname ?? '') : `one of ${able.length} nodes`}.`;
}

function describeHealth(node: NodeRecord | undefined): string {
  return `${node?.hostname}: ${node?.health?.message ?? 'not tried yet'}`;
}

function count(number: number, one: string, many = `${one}s`): string {
  return `${number} ${number === 1 ? one : many}`;
}

function describePlaces(live: readonly string[], nodes: readonly NodeRecord[]): string {
  const names = new Map(nodes.map(({ id, hostname }) => [id, hostname]));
  const places = new Map<string, number>();
  for (const member of live) {
    const runner = member.split('|')[0] as string;
    const place = `${names.get(runner) ?? 'a node that is gone'} (${runner})`;
    places.set(place, (places.get(place) ?? 0) + 1);
  }
  return [...places].map(([place, number]) => (places.size === 1 ? place : `${place}: ${number}`)).join(', ');
}
