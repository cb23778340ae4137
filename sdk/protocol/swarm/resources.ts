/**
 * Resources of a swarm: its members, what joining says and answers, services and their replicas.
 * Times are epoch milliseconds. Words and states are Docker Swarm's where it has them.
 */
import { z } from 'zod';
import { Constraint, Preference } from './constraint.ts';
import { FunctionName } from '../manifest.ts';

export const NodeRole = z.enum(['worker', 'manager']);
export type NodeRole = z.output<typeof NodeRole>;

export const Availability = z.enum(['active', 'pause', 'drain']);
export type Availability = z.output<typeof Availability>;

/** Whether invocations pass through a node: real ones, or a synthetic one when there were none for a while. */
export const NodeHealth = z.object({
  /** `untried`: none has passed since it started. */
  state: z.enum(['untried', 'passing', 'failing']),
  sinceMs: z.number(),
  /** Of the last that passed or failed. */
  checkedMs: z.number().optional(),
  /** What the synthetic one took, sandbox included. */
  ms: z.number().optional(),
  /** Why it failed. */
  message: z.string().optional(),
});
export type NodeHealth = z.output<typeof NodeHealth>;

/** A sandbox that served a moment ago and is idle: a node with more room may start one in its place. */
export const WarmSandbox = z.object({ sandbox: z.string(), deployment: z.string(), memoryBytes: z.number() });
export type WarmSandbox = z.output<typeof WarmSandbox>;

/** New work goes to such nodes. One that does not say, of an earlier release, counts as fit. */
export function isFit({ health }: { readonly health?: NodeHealth | undefined }): boolean {
  return health === undefined || health.state === 'passing';
}

const LabelName = z
  .string()
  .regex(
    /^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/,
    'a label name has letters, digits, "." "_" "-", at most 63',
  );
const LabelValue = z.string().max(253);

/** What an operator decided about a node; kept whether or not it is up. */
export const NodeSettings = z.object({
  availability: Availability.default('active'),
  /** Added to the labels that the node gives itself, and over them. */
  labels: z.record(LabelName, LabelValue).default({}),
  /** While draining, how long running invocations may go on. */
  drainGraceMs: z.number().int().min(0).optional(),
});
export type NodeSettings = z.output<typeof NodeSettings>;

export const NodeUpdate = z.strictObject({
  availability: Availability.optional(),
  labelsAdd: z.record(LabelName, LabelValue).optional(),
  labelsRemove: z.array(LabelName).optional(),
  drainGraceMs: z.number().int().min(0).max(3_600_000).optional(),
});
export type NodeUpdate = z.output<typeof NodeUpdate>;

/** A node that has joined: exists until it leaves or is removed, up or not. */
export const Member = z.object({
  id: z.string(),
  role: NodeRole,
  hostname: z.string(),
  /** Where others reach it. */
  address: z.string(),
  joinedMs: z.number(),
  certificateUntilMs: z.number(),
  version: z.string(),
  /** SHA-256 of the password of its user in both Redis stores; absent on the node that hosts them. */
  redisPasswordHash: z.string().optional(),
});
export type Member = z.output<typeof Member>;

export const SwarmInfo = z.object({
  id: z.string(),
  createdMs: z.number(),
  /** Digest of the CA, as in join tokens. */
  caDigest: z.string(),
  /** `host:port` of managers, for joining. */
  managers: z.array(z.string()),
});
export type SwarmInfo = z.output<typeof SwarmInfo>;

export const SwarmInitRequest = z.strictObject({
  /** IP address or host name under which other hosts reach this one. */
  advertiseAddr: z
    .string()
    .regex(/^[A-Za-z0-9.:-]{1,253}$/, 'an IP address or a host name')
    .optional(),
  /** Life of node certificates. */
  certificateMs: z
    .number()
    .int()
    .min(1_000)
    .max(10 * 365 * 86_400_000)
    .optional(),
});
export type SwarmInitRequest = z.output<typeof SwarmInitRequest>;

/** Body of POST /swarm/join on a manager's swarm port. */
export const JoinRequest = z.strictObject({
  /** Newest and oldest version that the joiner speaks: see versions.ts. */
  protocol: z.number().int(),
  protocolMin: z.number().int().optional(),
  version: z.string().max(64),
  secret: z.string().max(128),
  /** PEM, SPKI. The private key stays with the joiner. */
  publicKey: z.string().max(1_024),
  hostname: z.string().min(1).max(253),
  address: z
    .string()
    .regex(/^[A-Za-z0-9.:-]{1,253}$/)
    .optional(),
});
export type JoinRequest = z.output<typeof JoinRequest>;

/** Answer of POST /swarm/renew. */
export const RenewAnswer = z.object({ certificate: z.string(), ca: z.string() });
/** Answer of POST /swarm/keys. */
export const KeysAnswer = z.object({ secretKeys: z.string() });

export const RenewRequest = z.strictObject({ publicKey: z.string().max(1_024) });

/** What a node needs to take part. All of it is secret. */
export const JoinAnswer = z.object({
  nodeId: z.string(),
  role: NodeRole,
  swarm: z.string(),
  address: z.string(),
  certificate: z.string(),
  ca: z.string(),
  /** For managers alone. */
  caKey: z.string().optional(),
  tokens: z.object({ worker: z.string(), manager: z.string() }).optional(),
  /** The first API token, which all managers share. For managers alone. */
  adminToken: z.string().optional(),
  redis: z.object({ durable: z.string(), fast: z.string() }),
  registry: z.string(),
  /** The file with the keys that functions' secrets are encrypted with; empty when there are none. */
  secretKeys: z.string(),
});
export type JoinAnswer = z.output<typeof JoinAnswer>;

export const UpdateConfig = z.object({
  /** Replicas replaced at a time; 0 for all at once. */
  parallelism: z.number().int().min(0).max(1_000).default(1),
  delayMs: z.number().int().min(0).max(3_600_000).default(0),
  order: z.enum(['start-first', 'stop-first']).default('start-first'),
  failureAction: z.enum(['pause', 'rollback', 'continue']).default('rollback'),
  /** A new replica that fails within this time has failed the update. */
  monitorMs: z.number().int().min(0).max(3_600_000).default(5_000),
});
export type UpdateConfig = z.output<typeof UpdateConfig>;

/** A rollback that fails is not rolled back. */
export const RollbackConfig = UpdateConfig.omit({ failureAction: true }).extend({
  failureAction: z.enum(['pause', 'continue']).default('pause'),
});
export type RollbackConfig = z.output<typeof RollbackConfig>;

export const ServiceSpec = z.object({
  functionName: FunctionName,
  deployment: z.string(),
  mode: z.enum(['replicated', 'global']).default('replicated'),
  replicas: z.number().int().min(0).max(1_000).default(1),
  constraints: z.array(Constraint).max(32).default([]),
  /** Over what replicas are spread, the first before the second. */
  preferences: z.array(Preference).max(4).default([]),
  /** 0: no limit. */
  replicasMaxPerNode: z.number().int().min(0).max(1_000).default(0),
  update: UpdateConfig.prefault({}),
  /** How replicas are replaced on the way back; absent: as in an update. */
  rollback: RollbackConfig.optional(),
  /** Counts updates that were forced: replicas of an earlier one are replaced. */
  revision: z.number().int().min(0).default(0),
});
export type ServiceSpec = z.output<typeof ServiceSpec>;

export const UpdateState = z.enum(['updating', 'paused', 'completed', 'rolling-back', 'rolled-back']);
export type UpdateState = z.output<typeof UpdateState>;

export const Service = z.object({
  id: z.string(),
  name: FunctionName,
  createdMs: z.number(),
  updatedMs: z.number(),
  /** Compare-and-set counter. */
  version: z.number().int(),
  spec: ServiceSpec,
  previousSpec: ServiceSpec.optional(),
  updateStatus: z.object({ state: UpdateState, startedMs: z.number(), message: z.string() }).optional(),
});
export type Service = z.output<typeof Service>;

export const ServiceCreate = z.strictObject({
  name: FunctionName,
  functionName: FunctionName,
  /** Absent: what the alias `live` points to now. */
  deployment: z.string().optional(),
  mode: ServiceSpec.shape.mode.optional(),
  replicas: z.number().int().min(0).max(1_000).optional(),
  constraints: z.array(Constraint).max(32).optional(),
  preferences: z.array(Preference).max(4).optional(),
  replicasMaxPerNode: z.number().int().min(0).max(1_000).optional(),
  update: UpdateConfig.partial().optional(),
  rollback: RollbackConfig.partial().optional(),
});
export type ServiceCreate = z.output<typeof ServiceCreate>;

export const ServiceUpdate = z.strictObject({
  /** Replace all replicas, although nothing has changed. */
  force: z.boolean().optional(),
  /** `latest`: the newest one of the function. */
  deployment: z.string().optional(),
  replicas: z.number().int().min(0).max(1_000).optional(),
  constraints: z.array(Constraint).max(32).optional(),
  preferences: z.array(Preference).max(4).optional(),
  replicasMaxPerNode: z.number().int().min(0).max(1_000).optional(),
  update: UpdateConfig.partial().optional(),
  rollback: RollbackConfig.partial().optional(),
});
export type ServiceUpdate = z.output<typeof ServiceUpdate>;

/** One replica as its node reports it. */
export const Replica = z.object({
  /** Of one start; a replacement has another. */
  task: z.string(),
  service: z.string(),
  /** 1 to `replicas`; of a global service always 0. */
  slot: z.number().int(),
  deployment: z.string(),
  /** ServiceSpec.revision it was ordered for. Absent: its runner is of an earlier release, which cannot say. */
  revision: z.number().int().optional(),
  node: z.string(),
  sandbox: z.string().optional(),
  state: z.enum(['starting', 'running', 'stopping', 'failed']),
  sinceMs: z.number(),
  message: z.string().optional(),
});
export type Replica = z.output<typeof Replica>;

/** A volume of services: on one node, from its first use until somebody removes it. */
export const Volume = z.object({
  /** Of this volume: one that is made later under the same name has another. */
  id: z.string(),
  name: FunctionName,
  /** The node that has it, and where alone it can be used. */
  node: z.string(),
  createdMs: z.number(),
  /** It is to be removed: its node has not said yet that it did. */
  removedMs: z.number().optional(),
});
export type Volume = z.output<typeof Volume>;

export const VolumeState = Volume.extend({
  /** The service that uses it. */
  service: z.string().optional(),
  /** As its node says; absent while that is down. */
  bytes: z.number().optional(),
  bytesMax: z.number().optional(),
});
export type VolumeState = z.output<typeof VolumeState>;

/** What `skiff explain` says: one sentence, and what it is made of. */
export const Explanation = z.object({
  subject: z.string(),
  sentence: z.string(),
  facts: z.record(z.string(), z.unknown()),
});
export type Explanation = z.output<typeof Explanation>;

/** One sandbox on a node. */
export const NodeTask = z.object({
  functionName: z.string(),
  deployment: z.string(),
  sandbox: z.string(),
  service: z.string().optional(),
  state: z.string(),
});
export type NodeTask = z.output<typeof NodeTask>;

export const JoinTokenView = z.object({ role: NodeRole, token: z.string(), managers: z.array(z.string()) });
export type JoinTokenView = z.output<typeof JoinTokenView>;

export const ServiceState = z.object({
  service: Service,
  replicas: z.array(Replica),
  /** How many there should be now. */
  desired: z.number().int(),
  running: z.number().int(),
  /** As `running`, those that an update has yet to replace counted too. Absent: an earlier release. */
  serving: z.number().int().optional(),
  /** Why it is not as it should be. */
  message: z.string().optional(),
  url: z.string(),
});
export type ServiceState = z.output<typeof ServiceState>;
