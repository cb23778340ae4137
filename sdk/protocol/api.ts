/**
 * Resources of the control API under /v1. The gateway answers them, the client types come from here, and
 * builder and runner store them. Times are epoch milliseconds, sizes are bytes.
 */
import { z } from 'zod';
import { InvocationStep } from './events.ts';
import { BundleReport } from './source/bundle-report.ts';
import { FunctionConfig, FunctionName, NamespaceName, StoredSecretName } from './manifest.ts';
import { NodeHealth, NodeRole, WarmSandbox } from './swarm/resources.ts';

export const Digest = z.string().regex(/^sha256:[0-9a-f]{64}$/, 'a digest is "sha256:" and 64 hex digits');

/** One immutable version of a function. Written once, by the builder, when its image is pushed. */
export const Deployment = z.object({
  id: z.string(),
  functionName: FunctionName,
  createdMs: z.number(),
  source: z.object({ digest: Digest, bytes: z.number() }).optional(),
  image: z.object({
    /** Repository and digest in the registry, for example `skiff/hello@sha256:…`. */
    reference: z.string(),
    digest: Digest,
    bytes: z.number(),
    /** Base image the runner may serve from a stem; absent for images that are not ours. */
    base: z.object({ reference: z.string(), digest: Digest }).optional(),
    /** Layers above the base, in order. */
    layers: z.array(z.object({ digest: Digest, diffId: Digest, bytes: z.number(), mediaType: z.string() })),
  }),
  /** Absolute path of the module inside the image; empty for an image that brings its own server. */
  entry: z.string(),
  /** How such an image is started; it listens on `port`. */
  container: z
    .object({
      args: z.array(z.string()).min(1),
      env: z.record(z.string(), z.string()),
      cwd: z.string(),
      port: z.number().int(),
    })
    .optional(),
  config: FunctionConfig,
});
export type Deployment = z.output<typeof Deployment>;

export const Alias = z.object({
  name: z.string(),
  /** One or two; weights sum to 100. */
  targets: z
    .array(z.object({ deployment: z.string(), weight: z.number().int().min(0).max(100) }))
    .min(1)
    .max(2),
  /** Compare-and-set counter. */
  version: z.number().int(),
  updatedMs: z.number(),
});
export type Alias = z.output<typeof Alias>;

export const FunctionRecord = z.object({
  name: FunctionName,
  createdMs: z.number(),
  url: z.string(),
  /** The `live` alias; absent until the first deployment is live. */
  live: Alias.optional(),
  deployments: z.array(z.string()),
  sandboxes: z.number().optional(),
  runtime: z.string().optional(),
  access: z.enum(['public', 'private']).optional(),
  /** Of the live deployment. */
  labels: z.record(z.string(), z.string()).optional(),
});
export type FunctionRecord = z.output<typeof FunctionRecord>;

export const DeployRequest = z
  .strictObject({
    /** From POST /v1/uploads. This, `image` or `from`. */
    source: z.strictObject({ digest: Digest, bytes: z.number().int() }).optional(),
    /** An image that listens on $PORT: `registry.example:5000/name:tag`, or with a digest. */
    image: z.string().min(1).max(512).optional(),
    /** A deployment of this function: its code again, with `config` laid over its configuration. */
    from: z.string().max(64).optional(),
    /** Path of the entry module inside the source; found from package.json or usual names when absent. */
    entry: z.string().max(1024).optional(),
    /** Percent of the traffic it gets; the deployment that is live keeps the rest. Absent: all. */
    canary: z.number().int().min(1).max(99).optional(),
    config: z.unknown().optional(),
    /** Makes the image and says what is in it; nothing is deployed. */
    buildOnly: z.boolean().optional(),
  })
  .refine(
    ({ source, image, from }) => [source, image, from].filter((one) => one !== undefined).length === 1,
    { message: 'a deploy names a source, an image or a deployment to start from, and only one of them' },
  );
export type DeployRequest = z.output<typeof DeployRequest>;

export const BuildState = z.enum(['queued', 'running', 'succeeded', 'failed', 'cancelled']);
export const BuildRecord = z.object({
  id: z.string(),
  functionName: FunctionName,
  state: BuildState,
  createdMs: z.number(),
  endedMs: z.number().optional(),
  deployment: z.string().optional(),
  /** Reference of the image it made or used again. */
  image: z.string().optional(),
  /** Of a build that only builds. */
  report: BundleReport.optional(),
  error: z.object({ code: z.string(), message: z.string() }).optional(),
});
export type BuildRecord = z.output<typeof BuildRecord>;

/** One line of the NDJSON stream GET /v1/builds/{id}/events. The last one has type `end`. */
export type BuildEvent =
  | {
      readonly type: 'step';
      readonly atMs: number;
      readonly step: BuildStep;
      readonly status: 'start' | 'done';
      readonly ms?: number;
      readonly detail?: string;
    }
  | {
      readonly type: 'log';
      readonly atMs: number;
      readonly level: 'info' | 'warn' | 'error';
      readonly message: string;
    }
  | { readonly type: 'end'; readonly atMs: number; readonly build: BuildRecord };
export type BuildStep = 'fetch' | 'install' | 'bundle' | 'image' | 'push' | 'verify' | 'activate';

export const DeployResult = z.object({
  name: FunctionName,
  url: z.string(),
  deployment: z.string(),
  image: z.string(),
  ms: z.record(z.string(), z.number()),
});
export type DeployResult = z.output<typeof DeployResult>;

/** One line of GET /v1/functions/{name}/logs (NDJSON). */
export const LogLine = z.object({
  /** Position in the log: pass it as `after` to continue. */
  cursor: z.string(),
  atMs: z.number(),
  level: z.enum(['debug', 'info', 'warn', 'error']),
  /** `app` is the function's own, `platform` is Skiff's word on it. */
  source: z.enum(['app', 'stdout', 'stderr', 'platform']),
  message: z.string(),
  fields: z.record(z.string(), z.unknown()).optional(),
  deployment: z.string().optional(),
  sandbox: z.string().optional(),
  invocation: z.string().optional(),
  traceId: z.string().optional(),
});
export type LogLine = z.output<typeof LogLine>;

export const NodeRecord = z.object({
  id: z.string(),
  hostname: z.string(),
  epoch: z.string(),
  startedMs: z.number(),
  heartbeatMs: z.number(),
  availability: z.enum(['active', 'pause', 'drain']),
  labels: z.record(z.string(), z.string()),
  version: z.string(),
  /** Where gateways of the same host reach this runner's link: `unix:/path`. */
  link: z.string(),
  /** Where gateways of other hosts reach it, by TLS: `tcp:host:port`. Absent outside of a swarm. */
  address: z.string().optional(),
  role: NodeRole.optional(),
  platform: z.object({ os: z.string(), arch: z.string() }).optional(),
  protocol: z.number().int().optional(),
  /** `unready`: it gives signs of life, but no invocation passes through it (`health`). `down`: it gives none. */
  status: z.enum(['ready', 'unready', 'down']).optional(),
  health: NodeHealth.optional(),
  /** Some of its sandboxes that may move to nodes with more room. */
  warm: z.array(WarmSandbox).optional(),
  /** Sandboxes of other nodes that it has started others for. */
  taken: z.array(z.string()).optional(),
  capacity: z.object({ memoryBytes: z.number(), cpus: z.number() }),
  used: z.object({
    memoryBytes: z.number(),
    sandboxes: z.number(),
    busySlots: z.number(),
    stems: z.number(),
  }),
  /** Unpacked layers and root filesystems on this host; absent from runners that do not say. */
  images: z
    .object({ bytes: z.number(), bytesMax: z.number(), count: z.number(), reclaimableBytes: z.number() })
    .optional(),
  /** Layers of images between nodes; absent from runners that neither give nor ask. Counted since it started. */
  peers: z
    .object({
      /** Digests that it can give, as a Bloom filter in base64url. */
      summary: z.string(),
      kept: z.object({ count: z.number(), bytes: z.number() }),
      given: z.object({ count: z.number(), bytes: z.number() }),
      /** By peers in the place of the registry. */
      got: z.object({ count: z.number(), bytes: z.number() }),
      /** Pulls that the registry was asked for. */
      fromRegistry: z.number(),
      /** Peers that gave nothing or something else. */
      failed: z.number(),
    })
    .optional(),
  /** Volumes on this host by id. */
  volumes: z.record(z.string(), z.object({ bytes: z.number(), bytesMax: z.number() })).optional(),
});
export type NodeRecord = z.output<typeof NodeRecord>;

export const Scope = z.enum(['admin', 'deploy', 'invoke', 'read']);
export type Scope = z.output<typeof Scope>;
export const TokenRecord = z.object({
  id: z.string(),
  name: z.string(),
  scopes: z.array(Scope),
  /** Good for these functions and for nothing else. Absent: for all. */
  functions: z.array(FunctionName).optional(),
  /** Sees and touches what is of this namespace and nothing else. Absent: everything. */
  namespace: NamespaceName.optional(),
  createdMs: z.number(),
  expiresMs: z.number().optional(),
});
export type TokenRecord = z.output<typeof TokenRecord>;

/** A secret without its value, which no answer ever has. */
export const SecretRecord = z.object({
  name: StoredSecretName,
  /** Counts up with each new value. */
  version: z.number().int(),
  createdMs: z.number(),
  updatedMs: z.number(),
});
export type SecretRecord = z.output<typeof SecretRecord>;

/** A login to a registry of images, without its password, which no answer ever has. */
export const RegistryLogin = z.object({
  /** `host[:port]`. */
  host: z.string(),
  user: z.string(),
  updatedMs: z.number(),
});
export type RegistryLogin = z.output<typeof RegistryLogin>;

/** One row of `skiff df`: a store with a budget. */
export const Usage = z.object({
  store: z.string(),
  bytes: z.number().optional(),
  bytesMax: z.number().optional(),
  count: z.number().optional(),
  countMax: z.number().optional(),
  reclaimableBytes: z.number().optional(),
});
export type Usage = z.output<typeof Usage>;

/** One function in the last seconds, see StatsSnapshot. */
export const FunctionStats = z.object({
  name: FunctionName,
  /** Ended in the window. */
  calls: z.number().int(),
  /** Of these, ended with a cause: the function's fault or the platform's. */
  errors: z.number().int(),
  /** Of these, waited for a sandbox to start. */
  coldStarts: z.number().int(),
  callsPerSecond: z.number(),
  /** From the request to the end of the answer; absent without calls. Upper bounds of a histogram, 10 % apart. */
  p50Ms: z.number().optional(),
  p95Ms: z.number().optional(),
  p99Ms: z.number().optional(),
  sandboxes: z.number().int(),
  /** Calls that wait for a slot now. */
  waiting: z.number().int(),
});
export type FunctionStats = z.output<typeof FunctionStats>;

/** What goes on now: the last seconds of every function, in numbers. */
export const StatsSnapshot = z.object({
  atMs: z.number(),
  /** How far back counts go. */
  windowMs: z.number(),
  gateways: z.number().int(),
  callsPerSecond: z.number(),
  errorsPerSecond: z.number(),
  /** Calls that have begun and not ended, of all gateways. */
  inFlight: z.number().int(),
  /** All functions with something to say, busiest first. */
  functions: z.array(FunctionStats),
  nodes: z.array(NodeRecord),
});
export type StatsSnapshot = z.output<typeof StatsSnapshot>;

/** One run of one function: the invocation itself, an attempt of an event, or a call that a function made. */
export const TraceSpan = z.object({
  /** Invocation id. Attempts of one event share it. */
  id: z.string(),
  /** Invocation in whose course it was called; absent for the first. */
  parent: z.string().optional(),
  functionName: z.string(),
  deployment: z.string().optional(),
  node: z.string().optional(),
  /** Of an event: 1 for the first. */
  attempt: z.number().int().optional(),
  startMs: z.number(),
  /** Until the end of its answer. Absent while it runs. */
  ms: z.number().optional(),
  /** Of `ms`: waiting for a slot, starting a sandbox, running until the head of the answer. Absent when not recorded. */
  queueMs: z.number().optional(),
  coldMs: z.number().optional(),
  execMs: z.number().optional(),
  status: z.number().int().optional(),
  /** Why it failed. */
  cause: z.string().optional(),
  detail: z.string().optional(),
});
export type TraceSpan = z.output<typeof TraceSpan>;

/** Where the time of one invocation went: GET /v1/traces/{id}. */
export const Trace = z.object({
  id: z.string(),
  /** Of an asynchronous invocation: when it was accepted, and its state. */
  acceptedMs: z.number().optional(),
  state: z.string().optional(),
  /** In the order of their starts; the first one is the invocation that was asked for. */
  spans: z.array(TraceSpan),
  /** Durable steps of an asynchronous invocation, in the order in which they were stored. */
  steps: z.array(InvocationStep).optional(),
});
export type Trace = z.output<typeof Trace>;
