/**
 * Every Redis key and channel of Skiff, and nothing else builds one.
 * Invariant: all keys of one cell carry the same hash tag, so a Lua script may touch several of them on a Redis Cluster.
 * `eventKeys` and `fastKeys` name what belongs to functions, in the cell they hash to (cells.ts); everything else is in
 * the first cell, whose tag is HOME. Two stores (which may be one server): `durable` for what was promised, `fast` for
 * what was not.
 */
const HOME = '{skiff}';

const HASH_SLOTS = 16_384;
/** A cell's tag is taken when its hash slot is this near to where it is wanted. */
const SLOTS_NEAR = 64;

/**
 * The hash tag of a cell. Redis Cluster gives each primary a range of slots, so tags are chosen that lie evenly around
 * the first one's slot, whatever the number of cells: the usual ranges get the same number of cells each.
 */
export function cellTag(index: number): string {
  if (index === 0) return HOME;
  const wanted = (hashSlot(HOME) + Math.round(fractionOf(index) * HASH_SLOTS)) % HASH_SLOTS;
  for (let salt = 0; ; salt++) {
    const tag = `{skiff:${index}.${salt}}`;
    const distance = Math.abs(hashSlot(tag) - wanted);
    if (Math.min(distance, HASH_SLOTS - distance) <= SLOTS_NEAR) return tag;
  }
}

/** Of a key that is, or begins with, a hash tag: CRC16 (XMODEM) of what is in the braces, as Redis Cluster's specification says. */
export function hashSlot(key: string): number {
  let crc = 0;
  for (const byte of Buffer.from(key.slice(1, key.indexOf('}')))) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = ((crc << 1) ^ (crc & 0x8000 ? 0x1021 : 0)) & 0xffff;
  }
  return crc % HASH_SLOTS;
}

/**
 * A key of the same cell that is never written. Scripts on a Redis Cluster declare it beside keys that may be there: while
 * a slot moves, and some of its keys are on either side, they are refused as a whole (TRYAGAIN) instead of failing at
 * the first key that has moved already.
 */
export function absentKey(key: string): string {
  return `${key.slice(0, key.indexOf('}') + 1)}:absent`;
}

/** 1/2, 1/4, 3/4, 1/8, 5/8, …: each new one halves a gap (van der Corput). */
function fractionOf(index: number): number {
  let fraction = 0;
  for (let left = index, part = 0.5; left > 0; left >>= 1, part /= 2) fraction += (left & 1) * part;
  return fraction;
}

/** Durable store: functions, deployments, aliases, tokens, builds. BullMQ prefixes its own keys with `bullPrefix`. */
export const durable = {
  bullPrefix: `${HOME}:bull`,
  /** BullMQ's prefix of queues that are destinations: a user's workers name it. */
  destinationPrefix: `${HOME}:destinations`,
  /** Random value written when the store is first used; a different or absent one means a foreign or emptied Redis. */
  epoch: `${HOME}:epoch`,
  /** Set when every cell has been given the epoch. */
  epochIsEverywhere: `${HOME}:epoch:everywhere`,
  /** How many cells it was laid out for; absent: one. */
  cells: `${HOME}:cells`,
  /** JSON: a move to other cells that began from here, or to here, and is not over (infra/host/cells). */
  moved: `${HOME}:cells:moved`,
  /** Sorted set of function names, score = createdMs. */
  functions: `${HOME}:functions`,
  /** Hash: createdMs. */
  functionRecord: (name: string) => `${HOME}:fn:${name}`,
  /** Sorted set of deployment ids, score = createdMs. */
  functionDeployments: (name: string) => `${HOME}:fn:${name}:deployments`,
  /** Hash alias name -> JSON Alias. */
  functionAliases: (name: string) => `${HOME}:fn:${name}:aliases`,
  /** JSON Deployment. */
  deployment: (id: string) => `${HOME}:dep:${id}`,
  /** JSON BuildRecord, expires. */
  build: (id: string) => `${HOME}:build:${id}`,
  /** Stream of BuildEvent (field `e`), capped, expires. */
  buildEvents: (id: string) => `${HOME}:build:${id}:events`,
  /** Hash name -> JSON SecretRecord with the encrypted value. */
  secrets: `${HOME}:secrets`,
  /** Hash host -> JSON RegistryLogin with the encrypted password. */
  registryLogins: `${HOME}:registry-logins`,
  /** Sorted set of image digests that builds are about to use; score = epoch ms until which they are not collected. */
  imagesHeld: `${HOME}:images:held`,
  /** String: the collector at work, expires. */
  collecting: `${HOME}:images:collecting`,
  /** Hash sha256(token) hex -> JSON TokenRecord. */
  tokens: `${HOME}:tokens`,
  /**
   * Pub/sub: JSON { kind, name }. `function`, `alias` and `tokens`: gateways drop their caches.
   * `cancel` (name is a build id): the builder that runs it stops. `swarm`, `node`, `service`: whoever it concerns
   * reads again.
   */
  changes: `${HOME}:changes`,
} as const;

/** Pub/sub: the new state, when an invocation becomes final. Channels are the same in all cells. */
export const endedChannel = (id: string) => `${HOME}:inv-ended:${id}`;
/** Pub/sub: id of an invocation that was cancelled while it ran. */
export const cancelsChannel = `${HOME}:ev:cancels`;

/**
 * Durable store: asynchronous invocations (infra/events) of one cell. The scripts there are given these names when they
 * are loaded (infra/events/scripts.ts); where one takes a parameter, what it makes of '' is the prefix of all.
 */
export const eventKeys = (tag: string) =>
  ({
    /** As `durable.epoch`: what is accepted is compared with it in the same write. */
    epoch: `${tag}:epoch`,
    /** Prefix of this cell's BullMQ queues. */
    bullPrefix: `${tag}:bull`,
    /** Hash: an invocation's record. Fields: infra/events/record.ts. */
    record: (id: string) => `${tag}:inv:${id}`,
    /** Hash: its request. Fields `h` (JSON head), `b` (body) or `blob` (JSON reference). */
    request: (id: string) => `${tag}:inv-request:${id}`,
    /** Hash: its result, the same fields. Expires on its own. */
    result: (id: string) => `${tag}:inv-result:${id}`,
    /** Hash step -> JSON of its result, or of what it waits for (infra/events/steps.ts). Expires with its invocation. */
    steps: (id: string) => `${tag}:inv-steps:${id}`,
    /** Sorted set of steps of one invocation that sleep or wait; score = until when. */
    sleeping: (id: string) => `${tag}:inv-sleeping:${id}`,
    /** Sorted set of `invocation step` that wait for an event of this name; score = since when. */
    waiters: (name: string) => `${tag}:ev:waiters:${name}`,
    /** Sorted set of `number data` of events of this name that are kept for later waits; score = when it was sent. Expires. */
    kept: (name: string) => `${tag}:ev:kept:${name}`,
    /** Their bytes together. */
    keptBytes: (name: string) => `${tag}:ev:kept-bytes:${name}`,
    ended: endedChannel,
    /** Sorted set of ids of one function that wait to be put into BullMQ; score = priority, then order of acceptance. */
    room: (functionName: string) => `${tag}:ev:room:${functionName}`,
    /** Sorted set of ids of one function that are in BullMQ or run; score = when it was last made sure that they are. */
    window: (functionName: string) => `${tag}:ev:window:${functionName}`,
    /** The same of a namespace ('' for functions without one), over all its functions. */
    space: (namespace: string) => `${tag}:ev:space:${namespace}`,
    /** Sorted set of functions of a namespace that wait for a place in `space`; score = their turn. */
    held: (namespace: string) => `${tag}:ev:held:${namespace}`,
    /** Sorted set of unfinished ids with one ordering key, in order of acceptance. `key` is `function/sha1`. */
    line: (key: string) => `${tag}:ev:line:${key}`,
    /** Hash function name -> `window:rate`, what `window` may hold and starts a second; `*` -> what each `space` may hold. */
    limits: `${tag}:ev:limits`,
    /** Set of `invocation member`: members that ended, and whose end the one of another cell that waits is to be told. */
    groupEnds: `${tag}:ev:group-ends`,
    /** Set of function names whose room is not empty. */
    rooms: `${tag}:ev:rooms`,
    /** Sorted set of function names that are held back by their rate; score = when to look again. */
    throttled: `${tag}:ev:throttled`,
    /** String: theoretical arrival time of a function's next start (GCRA), expires. */
    rate: (functionName: string) => `${tag}:ev:rate:${functionName}`,
    /** Sorted set of ids that are delayed or wait for a retry; score = due. */
    due: `${tag}:ev:due`,
    /** Sorted set of ids that run; score = end of the lease. */
    leases: `${tag}:ev:leases`,
    /** Sorted set of all unfinished ids; score = end of their maximum age. */
    expiry: `${tag}:ev:expiry`,
    /** Hash function name -> count of its unfinished invocations. */
    unfinished: `${tag}:ev:unfinished`,
    /** Hash of counters: one for each state, `accepted`, `bytes`, `seq`, … */
    stats: `${tag}:ev:stats`,
    /** Sorted set of ids that ended dead or expired; score = when. */
    dead: `${tag}:ev:dead`,
    /** Hash name -> JSON definition of a schedule. */
    schedules: `${tag}:ev:schedules`,
    /** Hash: what has become of a schedule: version, last planned instant, last invocation, counters. */
    schedule: (name: string) => `${tag}:ev:schedule:${name}`,
    /** Sorted set of names of schedules that are not paused or over; score = next planned instant. */
    nextTicks: `${tag}:ev:next-ticks`,
    /** Set of names of schedules with a tick that waits for the end of the one before it. */
    pendingTicks: `${tag}:ev:pending-ticks`,
    /** String `id|fence` of the process that fires ticks, expires. */
    scheduler: `${tag}:ev:scheduler`,
    /** Counter: fence tokens of schedulers. */
    schedulerFence: `${tag}:ev:scheduler-fence`,
    /** Sorted set of ids whose end a destination is to be told; score = when it is tried next. */
    outbox: `${tag}:ev:outbox`,
    cancels: cancelsChannel,
    /** Hash: idempotency record. `scope` is `function/sha1 of the key`. */
    idempotency: (scope: string) => `${tag}:idem:${scope}`,
  }) as const;

export type EventKeys = ReturnType<typeof eventKeys>;

/** Durable store: sorted set of digests of bodies in the registry; score = when they may be removed. */
export const payloadBlobs = `${HOME}:ev:blobs`;

/** Durable store: what operators decided about hosts and services (infra/swarm). */
export const swarm = {
  /** JSON SwarmRecord; absent until `skiff swarm init`. */
  record: `${HOME}:swarm`,
  /** Hash node id -> JSON Member. */
  members: `${HOME}:swarm:members`,
  /** Hash of one node: `availability`, `drainGraceMs`, `label:<name>`. Also without a swarm. */
  nodeSettings: (node: string) => `${HOME}:swarm:node:${node}`,
  /** Hash service name -> JSON Service. */
  services: `${HOME}:swarm:services`,
  /** Hash volume name -> JSON Volume. */
  volumes: `${HOME}:swarm:volumes`,
} as const;

/** Fast store, of one cell: what belongs to functions, and what scripts need of runners beside it. */
export const fastKeys = (tag: string) =>
  ({
    /** List of slot tokens, LIFO at the right end. */
    idle: (deployment: string) => `${tag}:idle:${deployment}`,
    /** List of envelopes that wait for a slot. */
    wait: (deployment: string) => `${tag}:wait:${deployment}`,
    /** Sorted set of start ids, score = expiry ms: sandboxes that are being started. */
    starting: (deployment: string) => `${tag}:starting:${deployment}`,
    /** Sorted set of `runner|epoch|sandbox`, score = expiry ms (renewed by the runner): sandboxes that exist. */
    live: (deployment: string) => `${tag}:live:${deployment}`,
    /** List of JSON StartOrder: any runner with room takes one. */
    demand: `${tag}:demand`,
    /** List of `token\nenvelope` for one runner. */
    inbox: (runner: string) => `${tag}:inbox:${runner}`,
    /** String: the token for which an envelope was taken out of its wait list, by invocation. Expires. */
    given: (invocation: string) => `${tag}:given:${invocation}`,
    /** The runner's epoch while it is alive; expires by itself. */
    alive: (runner: string) => `${tag}:alive:${runner}`,
    /** Sorted set of leased tokens of one runner, score = expiry ms. */
    leases: (runner: string) => `${tag}:leases:${runner}`,
    /** Stream of log lines of one function (field `l`, JSON LogLine without cursor), capped. */
    logs: (functionName: string) => `${tag}:logs:${functionName}`,
  }) as const;

export type FastKeys = ReturnType<typeof fastKeys>;

/** Fast store: nothing in it was ever promised to anyone. */
export const fast = {
  /** Sorted set of places for sandboxes of one namespace, score = expiry ms (renewed by the runner). */
  namespace: (namespace: string) => `${HOME}:namespace:${namespace}`,
  /** JSON NodeRecord; expires by itself. */
  node: (runner: string) => `${HOME}:node:${runner}`,
  /** The runner that fetches a layer from the registry while others wait for it; expires by itself. */
  pulling: (digest: string) => `${HOME}:pulling:${digest}`,
  /** Sorted set of runner ids, score = last heartbeat ms. */
  nodes: `${HOME}:nodes`,
  /** List: the result of one start order that asked for it. Expires. */
  startResult: (id: string) => `${HOME}:start:${id}`,
  /** Hash gateway id -> JSON of what it saw in the last seconds (gateway/stats). */
  stats: `${HOME}:stats`,
  /** Pub/sub: what a gateway asks all others about calls that they remember, and the answers for it. */
  callQuestions: `${HOME}:calls`,
  callAnswers: (gateway: string) => `${HOME}:calls:${gateway}`,
  /** Pub/sub: a runner appeared (its id). */
  runners: `${HOME}:runners`,
  /** List of JSON StartOrder or StopOrder for one runner alone. */
  orders: (runner: string) => `${HOME}:orders:${runner}`,
  /** JSON list of Replica that one runner has; expires with its sign of life. */
  replicas: (runner: string) => `${HOME}:replicas:${runner}`,
  /** Hash task -> JSON PendingTask: replicas that were ordered and that no runner reports yet. */
  pending: `${HOME}:pending`,
  /** The gateway that reconciles services, as `gateway|term`; expires by itself. */
  leader: `${HOME}:leader`,
  /** Counts terms of leaders: only upwards. */
  leaderTerm: `${HOME}:leader:term`,
} as const;
