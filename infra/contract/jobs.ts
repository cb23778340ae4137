/**
 * Payloads that services hand to each other through Redis. Queue names are BullMQ's.
 */
import type { DeployRequest } from '../../sdk/protocol/api.ts';
import type { FunctionConfigInput } from '../../sdk/protocol/manifest.ts';

export const BUILD_QUEUE = 'builds';

interface AnyBuildJob {
  readonly buildId: string;
  readonly deploymentId: string;
  readonly functionName: string;
  /** What the request says, checked but without defaults: the builder adds what the code says below it. */
  readonly config: FunctionConfigInput;
  /** What the function's URL will be, for the record. */
  readonly url: string;
  readonly requestedMs: number;
  /** Percent of the traffic; absent: all. */
  readonly canary?: number;
  /** Makes the image and a report of it, and no deployment. */
  readonly buildOnly?: boolean;
  readonly traceparent?: string;
}

/** A source that was uploaded. */
export interface SourceJob extends AnyBuildJob {
  readonly source: NonNullable<DeployRequest['source']>;
  readonly entry?: string;
}

/** An image of another registry. */
export interface ImageJob extends AnyBuildJob {
  /** As the request names it. */
  readonly image: string;
}

/** A deployment of the same function, with `config` laid over its own. */
export interface CopyJob extends AnyBuildJob {
  readonly from: string;
}

/** Input of a build job (gateway -> builder). The job id is `buildId`. Output: the build's record and events in Redis. */
export type BuildJob = SourceJob | ImageJob | CopyJob;

/**
 * An order to start one sandbox (dispatch script or builder -> any runner with room), element of `fast.demand`.
 * With `reply` the runner pushes a StartResult to `fast.startResult(id)`: that is how a deploy probes its function
 * before the alias moves.
 */
export interface StartOrder {
  readonly id: string;
  readonly dep: string;
  readonly reply?: boolean;
  /** A sandbox of another node that ends when this one runs: see runner/swarm/rebalance.ts. */
  readonly instead?: string;
  /** The sandbox becomes a replica of a service: see `replicaDeployment`. */
  readonly replica?: {
    readonly service: string;
    readonly slot: number;
    readonly task: string;
    /** ServiceSpec.revision. Absent: 0. */
    readonly revision?: number;
  };
}

/** An order to end one replica, element of `fast.orders(runner)`. */
export interface StopOrder {
  readonly stop: string;
}

/**
 * A service's sandboxes have queues of their own, so that a function's calls and a service's never mix: in the fast
 * store its deployment goes by this name.
 */
export const replicaDeployment = (deployment: string, service: string): string => `${deployment}@${service}`;

export interface StartResult {
  readonly ok: boolean;
  readonly ms: number;
  readonly sandbox?: string;
  readonly code?: string;
  readonly message?: string;
  readonly stack?: string;
}

/** Repositories of the registry. */
export const SOURCE_REPOSITORY = 'skiff/source';
/** Bodies of events and results that are too large for Redis. */
export const PAYLOAD_REPOSITORY = 'skiff/payloads';
export const functionRepository = (name: string): string => `functions/${name}`;
/** `node:26` -> { repository: 'skiff/node', tag: '26' }. */
export function baseImage(runtime: string): { repository: string; tag: string } {
  const [name, tag = 'latest'] = runtime.split(':') as [string, string?];
  return { repository: `skiff/${name}`, tag };
}
