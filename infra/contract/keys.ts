/**
 * Every Redis key and channel of Skiff, and nothing else builds one.
 * Invariant: all keys of one cell carry the same hash tag `{cell}`, so a Lua script may touch several of them
 * on a Redis Cluster. Two stores (which may be one server): `durable` for what was promised, `fast` for what was not.
 */
const CELL = '{skiff}';

/** Durable store: functions, deployments, aliases, tokens, builds. BullMQ prefixes its own keys with `bullPrefix`. */
export const durable = {
  bullPrefix: `${CELL}:bull`,
  /** BullMQ's prefix of queues that are destinations: a user's workers name it. */
  destinationPrefix: `${CELL}:destinations`,
  /** Random value written when the store is first used; a different or absent one means a foreign or emptied Redis. */
  epoch: `${CELL}:epoch`,
  /** Sorted set of function names, score = createdMs. */
  functions: `${CELL}:functions`,
  /** Hash: createdMs. */
  functionRecord: (name: string) => `${CELL}:fn:${name}`,
  /** Sorted set of deployment ids, score = createdMs. */
  functionDeployments: (name: string) => `${CELL}:fn:${name}:deployments`,
  /** Hash alias name -> JSON Alias. */
  functionAliases: (name: string) => `${CELL}:fn:${name}:aliases`,
  /** JSON Deployment. */
  deployment: (id: string) => `${CELL}:dep:${id}`,
  /** JSON BuildRecord, expires. */
  build: (id: string) => `${CELL}:build:${id}`,
  /** Stream of BuildEvent (field `e`), capped, expires. */
  buildEvents: (id: string) => `${CELL}:build:${id}:events`,
  /** Hash name -> JSON SecretRecord with the encrypted value. */
  secrets: `${CELL}:secrets`,
  /** Hash host -> JSON RegistryLogin with the encrypted password. */
  registryLogins: `${CELL}:registry-logins`,
  /** Sorted set of image digests that builds are about to use; score = epoch ms until which they are not collected. */
  imagesHeld: `${CELL}:images:held`,
  /** String: the collector at work, expires. */
  collecting: `${CELL}:images:collecting`,
  /** Hash sha256(token) hex -> JSON TokenRecord. */
  tokens: `${CELL}:tokens`,
  /**
   * Pub/sub: JSON { kind, name }. `function`, `alias` and `tokens`: gateways drop their caches.
   * `cancel` (name is a build id): the builder that runs it stops. `swarm`, `node`, `service`: whoever it concerns
   * reads again.
   */
  changes: `${CELL}:changes`,
} as const;

/**
 * Durable store: asynchronous invocations (infra/events). The scripts there are given these names when they are
 * loaded (infra/events/scripts.ts); where one takes a parameter, what it makes of '' is the prefix of all.
 */
export const events = {
  /** Hash: an invocation's record. Fields: infra/events/record.ts. */
  record: (id: string) => `${CELL}:inv:${id}`,
  /** Hash: its request. Fields `h` (JSON head), `b` (body) or `blob` (JSON reference). */
  request: (id: string) => `${CELL}:inv-request:${id}`,
  /** Hash: its result, the same fields. Expires on its own. */
  result: (id: string) => `${CELL}:inv-result:${id}`,
  /** Hash step -> JSON of its result, or of what it waits for (infra/events/steps.ts). Expires with its invocation. */
  steps: (id: string) => `${CELL}:inv-steps:${id}`,
  /** Sorted set of steps of one invocation that sleep or wait; score = until when. */
  sleeping: (id: string) => `${CELL}:inv-sleeping:${id}`,
  /** Sorted set of `invocation step` that wait for an event of this name; score = since when. */
  waiters: (name: string) => `${CELL}:ev:waiters:${name}`,
  /** Pub/sub: the new state, when an invocation becomes final. */
  ended: (id: string) => `${CELL}:inv-ended:${id}`,
  /** Sorted set of ids of one function that wait to be put into BullMQ; score = priority, then order of acceptance. */
  room: (functionName: string) => `${CELL}:ev:room:${functionName}`,
  /** Sorted set of ids of one function that are in BullMQ or run; score = when it was last made sure that they are. */
  window: (functionName: string) => `${CELL}:ev:window:${functionName}`,
  /** Sorted set of unfinished ids with one ordering key, in order of acceptance. `key` is `function/sha1`. */
  line: (key: string) => `${CELL}:ev:line:${key}`,
  /** Hash function name -> JSON limits: what `window` may hold, starts a second. */
  limits: `${CELL}:ev:limits`,
  /** Set of function names whose room is not empty. */
  rooms: `${CELL}:ev:rooms`,
  /** Sorted set of function names that are held back by their rate; score = when to look again. */
  throttled: `${CELL}:ev:throttled`,
  /** String: theoretical arrival time of a function's next start (GCRA), expires. */
  rate: (functionName: string) => `${CELL}:ev:rate:${functionName}`,
  /** Sorted set of ids that are delayed or wait for a retry; score = due. */
  due: `${CELL}:ev:due`,
  /** Sorted set of ids that run; score = end of the lease. */
  leases: `${CELL}:ev:leases`,
  /** Sorted set of all unfinished ids; score = end of their maximum age. */
  expiry: `${CELL}:ev:expiry`,
  /** Hash function name -> count of its unfinished invocations. */
  unfinished: `${CELL}:ev:unfinished`,
  /** Hash of counters: one for each state, `accepted`, `bytes`, `seq`, … */
  stats: `${CELL}:ev:stats`,
  /** Sorted set of ids that ended dead or expired; score = when. */
  dead: `${CELL}:ev:dead`,
  /** Hash name -> JSON definition of a schedule. */
  schedules: `${CELL}:ev:schedules`,
  /** Hash: what has become of a schedule: version, last planned instant, last invocation, counters. */
  schedule: (name: string) => `${CELL}:ev:schedule:${name}`,
  /** Sorted set of names of schedules that are not paused or over; score = next planned instant. */
  nextTicks: `${CELL}:ev:next-ticks`,
  /** Set of names of schedules with a tick that waits for the end of the one before it. */
  pendingTicks: `${CELL}:ev:pending-ticks`,
  /** String `id|fence` of the process that fires ticks, expires. */
  scheduler: `${CELL}:ev:scheduler`,
  /** Counter: fence tokens of schedulers. */
  schedulerFence: `${CELL}:ev:scheduler-fence`,
  /** Sorted set of ids whose end a destination is to be told; score = when it is tried next. */
  outbox: `${CELL}:ev:outbox`,
  /** Sorted set of digests of bodies in the registry; score = when they may be removed. */
  blobs: `${CELL}:ev:blobs`,
  /** Pub/sub: id of an invocation that was cancelled while it ran. */
  cancels: `${CELL}:ev:cancels`,
  /** Hash: idempotency record. `scope` is `function/sha1 of the key`. */
  idempotency: (scope: string) => `${CELL}:idem:${scope}`,
} as const;

/** Durable store: what operators decided about hosts and services (infra/swarm). */
export const swarm = {
  /** JSON SwarmRecord; absent until `skiff swarm init`. */
  record: `${CELL}:swarm`,
  /** Hash node id -> JSON Member. */
  members: `${CELL}:swarm:members`,
  /** Hash of one node: `availability`, `drainGraceMs`, `label:<name>`. Also without a swarm. */
  nodeSettings: (node: string) => `${CELL}:swarm:node:${node}`,
  /** Hash service name -> JSON Service. */
  services: `${CELL}:swarm:services`,
} as const;

/** Fast store: nothing in it was ever promised to anyone. */
export const fast = {
  /** List of slot tokens, LIFO at the right end. */
  idle: (deployment: string) => `${CELL}:idle:${deployment}`,
  /** List of envelopes that wait for a slot. */
  wait: (deployment: string) => `${CELL}:wait:${deployment}`,
  /** Sorted set of start ids, score = expiry ms: sandboxes that are being started. */
  starting: (deployment: string) => `${CELL}:starting:${deployment}`,
  /** Sorted set of `runner|epoch|sandbox`, score = expiry ms (renewed by the runner): sandboxes that exist. */
  live: (deployment: string) => `${CELL}:live:${deployment}`,
  /** Sorted set of places for sandboxes of one namespace, score = expiry ms (renewed by the runner). */
  namespace: (namespace: string) => `${CELL}:namespace:${namespace}`,
  /** List of JSON StartOrder: any runner with room takes one. */
  demand: `${CELL}:demand`,
  /** List of `token\nenvelope` for one runner. */
  inbox: (runner: string) => `${CELL}:inbox:${runner}`,
  /** The runner's epoch while it is alive; expires by itself. */
  alive: (runner: string) => `${CELL}:alive:${runner}`,
  /** JSON NodeRecord; expires by itself. */
  node: (runner: string) => `${CELL}:node:${runner}`,
  /** Sorted set of runner ids, score = last heartbeat ms. */
  nodes: `${CELL}:nodes`,
  /** Sorted set of leased tokens of one runner, score = expiry ms. */
  leases: (runner: string) => `${CELL}:leases:${runner}`,
  /** List: the result of one start order that asked for it. Expires. */
  startResult: (id: string) => `${CELL}:start:${id}`,
  /** Stream of log lines of one function (field `l`, JSON LogLine without cursor), capped. */
  logs: (functionName: string) => `${CELL}:logs:${functionName}`,
  /** Hash gateway id -> JSON of what it saw in the last seconds (gateway/stats). */
  stats: `${CELL}:stats`,
  /** Pub/sub: a runner appeared (its id). */
  runners: `${CELL}:runners`,
  /** List of JSON StartOrder or StopOrder for one runner alone. */
  orders: (runner: string) => `${CELL}:orders:${runner}`,
  /** JSON list of Replica that one runner has; expires with its sign of life. */
  replicas: (runner: string) => `${CELL}:replicas:${runner}`,
  /** Hash task -> JSON PendingTask: replicas that were ordered and that no runner reports yet. */
  pending: `${CELL}:pending`,
  /** The gateway that reconciles services, as `gateway|term`; expires by itself. */
  leader: `${CELL}:leader`,
  /** Counts terms of leaders: only upwards. */
  leaderTerm: `${CELL}:leader:term`,
} as const;
