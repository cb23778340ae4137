/**
 * Every ceiling of the platform, each with its reason. A limit that is not here does not exist.
 * Units are in the names. Settable ones name their SKIFF_* variable in the service's config.ts.
 */
const KB = 1024;
const MB = 1024 * KB;

/** One frame: two windows of body plus a full head; anything longer is an attack or a bug. */
export const FRAME_BYTES_MAX = 1 * MB;
/** Credit a stream starts with. 256 KB keeps a 1 Gbit/s link busy at 2 ms and bounds a relay's memory. */
export const STREAM_WINDOW_BYTES = 256 * KB;
/** Body bytes in one DATA frame: small enough that streams interleave fairly. */
export const DATA_FRAME_BYTES_MAX = 64 * KB;
/** Bodies up to this travel inside the envelope; larger ones stream over the link. */
export const INLINE_BODY_BYTES_MAX = 64 * KB;
/** Request and response heads. Node's own default is 16 KB; cookies and traces need some more. */
export const HEAD_BYTES_MAX = 32 * KB;
/** Of one request. Browsers send about 20. */
export const HEADERS_COUNT_MAX = 128;
/** Of one gateway. A process of an ordinary host may have 20,000 files open, and a call needs others as well. */
export const CONNECTIONS_MAX = 15_000;
/** A third stays for others whatever one address does; a proxy in front needs fewer, as it uses connections again. */
export const CONNECTIONS_PER_ADDRESS_MAX = 10_000;
/** How long a client may owe the next piece of its body, or leave an answer untaken. */
export const STALL_MS_MAX = 30_000;
/** As browsers and proxies do. */
export const URL_BYTES_MAX = 8 * KB;
/** Request body of one invocation unless the function raises it. */
export const BODY_BYTES_MAX = 1024 * MB;
/** Uploaded source, packed. */
export const SOURCE_BYTES_MAX = 100 * MB;
/** Uploaded source, unpacked, and its number of entries: stops archive bombs. */
export const SOURCE_UNPACKED_BYTES_MAX = 500 * MB;
export const SOURCE_ENTRIES_MAX = 50_000;
/** One image layer, unpacked. */
export const LAYER_UNPACKED_BYTES_MAX = 2048 * MB;
export const LAYER_ENTRIES_MAX = 200_000;
/** One manifest or image config document. The distribution registry's own limit is 4 MB. */
export const MANIFEST_BYTES_MAX = 4 * MB;
/** JSON bodies of the control API. */
export const API_BODY_BYTES_MAX = 1 * MB;

/** A name becomes a DNS label and a repository path component, hence 63. */
export const FUNCTION_NAME_LENGTH_MAX = 63;
export const ENV_BYTES_MAX = 64 * KB;
export const ENV_COUNT_MAX = 200;
export const LABELS_COUNT_MAX = 64;

export const MEMORY_BYTES_MIN = 64 * MB;
export const MEMORY_BYTES_DEFAULT = 256 * MB;
export const MEMORY_BYTES_MAX = 32 * 1024 * MB;
export const CPU_MIN = 0.05;
export const CPU_MAX = 64;
export const TIMEOUT_MS_DEFAULT = 30_000;
export const TIMEOUT_MS_MAX = 3_600_000;
export const CONCURRENCY_DEFAULT = 16;
export const CONCURRENCY_MAX = 1000;
export const SANDBOXES_PER_FUNCTION_DEFAULT = 10;
export const SANDBOXES_PER_FUNCTION_MAX = 1000;
/** Scale to zero after this much silence unless the function says otherwise. */
export const KEEP_ALIVE_MS_DEFAULT = 300_000;
/** Processes and threads of one sandbox. Node itself uses 11. */
export const PIDS_MAX = 128;
export const OPEN_FILES_MAX = 1024;
/** /tmp of a sandbox; its bytes are charged to the sandbox's memory as well. */
export const TMP_BYTES_MAX = 64 * MB;
export const TMP_INODES_MAX = 16_384;

/** How long a sandbox may take to load its function before the start counts as failed. */
export const COLD_START_MS_MAX = 30_000;
/** After CANCEL, how long a guest may take to answer before its sandbox is killed. */
export const CANCEL_GRACE_MS = 1_000;
/** How often a replica with a health check is asked, how long it may take to answer, and how often it may fail in a row. */
export const HEALTH_INTERVAL_MS = 10_000;
export const HEALTH_TIMEOUT_MS = 5_000;
export const HEALTH_RETRIES = 3;
/** Waiting invocations of one deployment. */
export const QUEUE_DEPTH_MAX = 1_000;
/** Longest wait for a slot, if the deadline is not sooner. */
export const QUEUE_WAIT_MS_MAX = 10_000;

/** Log lines: longer ones are cut, more of them are dropped and counted. */
export const LOG_LINE_BYTES_MAX = 16 * KB;
export const LOG_LINES_PER_SECOND_MAX = 1_000;
export const LOG_LINES_KEPT_PER_FUNCTION = 5_000;
/** Of one sandbox, and kept of one function: long lines must not fill the store that all functions share. */
export const LOG_BYTES_PER_SECOND_MAX = 1 * MB;
export const LOG_BYTES_KEPT_PER_FUNCTION = 16 * MB;
/** What is read of a sandbox's output at all; its writer waits for the rest. */
export const OUTPUT_BYTES_PER_SECOND_MAX = 16 * MB;
export const BUILD_LOG_LINES_KEPT = 2_000;
export const BUILD_MS_MAX = 600_000;
export const DEPLOYMENTS_KEPT_PER_FUNCTION = 50;
/** npm packages of one function: what one install may fetch, and take on disk. */
export const DEPENDENCIES_DOWNLOAD_BYTES_MAX = 512 * MB;
export const DEPENDENCIES_BYTES_MAX = 1024 * MB;
/** An install is cut off well before its build. */
export const INSTALL_MS_MAX = 300_000;
/** npm with a large tree needs about 500 MB. */
export const INSTALL_MEMORY_BYTES = 1024 * MB;
/** An image that is built from a Containerfile: memory of its sandbox, disk with the images below it, time. */
export const CONTAINER_BUILD_MEMORY_BYTES = 1024 * MB;
export const CONTAINER_BUILD_BYTES_MAX = 8192 * MB;
export const CONTAINER_BUILD_MS_MAX = 540_000;
/** What a builder keeps between builds: installed trees, tarballs, and the base images it installs with. */
export const INSTALLED_TREES_BYTES_MAX = 4096 * MB;
export const TARBALL_CACHE_BYTES_MAX = 2048 * MB;
export const BUILDER_STORE_BYTES_MAX = 2048 * MB;
/** Records and events of builds that ended: long enough to look at yesterday's failure. */
export const BUILDS_KEPT_MS = 86_400_000;
export const BUILDS_KEPT = 1_000;
/** Builds in one answer of the API. */
export const BUILDS_LISTED_MAX = 100;
/** Images and sources that no deployment needs are kept this much longer: a build that uses them may be under way. */
export const IMAGES_UNNEEDED_MS = 3_600_000;
/** How often a builder looks for them. */
export const COLLECT_MS = 600_000;
/** The registry's sweep of its disk, at the start of a server. What is left is swept at the next one. */
export const REGISTRY_SWEEP_MS_MAX = 60_000;
/** Builds that wait for a builder; more of them means that none is working. */
export const BUILDS_QUEUED_MAX = 200;
/** Secrets: a certificate with its chain has some KB. */
export const SECRET_BYTES_MAX = 64 * KB;
export const SECRETS_MAX = 1_000;
export const REGISTRY_LOGINS_MAX = 100;
export const SECRETS_PER_FUNCTION_MAX = 50;
/** They travel in one frame, as files and as variables. */
export const SECRETS_BYTES_PER_FUNCTION_MAX = 256 * KB;
/** API tokens: listing and revoking read them all. */
export const TOKENS_MAX = 1_000;
/** Streams of logs and build events one gateway serves at once: each holds a Redis connection. */
export const FOLLOWERS_MAX = 256;

export const HEARTBEAT_MS = 500;
/** A runner is dead when its heartbeat is older than this. */
export const RUNNER_DEAD_MS = 2_500;
/** How often it is looked for. Together they are less than the 3 s in which a dead runner is to be known everywhere. */
export const RUNNER_LOOK_MS = 250;
/**
 * A node that could not say that it lives for this long ends its replicas. Others are started in their place after
 * RUNNER_DEAD_MS at the earliest, so this is also the longest that one replica runs twice.
 */
export const SERVICE_FENCE_MS = 5_000;
/** On a node that is drained, how long running invocations may go on. */
export const DRAIN_GRACE_MS = 30_000;
/** How long a gateway may use a slot without asking Redis again. */
export const LEASE_MS = 2_000;
/** Calls of functions by functions: deeper chains are loops. */
export const CALL_DEPTH_MAX = 16;
/** Values that a Containerfile's build is given. */
export const BUILD_ARGS_MAX = 100;
/** V8's code cache of one bundle, which is about as large as the bundle: a runner holds one at a time while it is made. */
export const CODE_CACHE_BYTES_MAX = 32 * MB;
/** Functions that one function may declare to call, and calls of one sandbox at a time. */
export const CALL_TARGETS_MAX = 64;
export const CALLS_PER_SANDBOX_MAX = 128;

/** One log file of one process of the server, and how many older ones are kept beside it: 64 MB for each process. */
export const PROCESS_LOG_BYTES_MAX = 16 * MB;
export const PROCESS_LOG_FILES_KEPT = 3;
/** A line of a process's output that is longer is cut: the supervisor holds one line of each in memory. */
export const PROCESS_LINE_BYTES_MAX = 64 * KB;
/** Longest pause before a process that keeps dying is started again. */
export const RESTART_DELAY_MS_MAX = 10_000;
/** A process that has run this long is healthy: its next death starts the pauses from the shortest again. */
export const RESTART_HEALTHY_MS = 10_000;

/** Bodies of events and results up to this lie in Redis; larger ones go to the registry, with a reference. */
export const EVENT_INLINE_BYTES_MAX = 64 * KB;
/** Larger things belong into a store of objects, and their address into an event. */
export const EVENT_BODY_BYTES_MAX = 256 * MB;
/** A longer result is cut and marked as cut. */
export const RESULT_BYTES_MAX = 64 * MB;
/** Of a recorded event, in what the API shows of it. */
export const CAPTURED_BODY_BYTES_MAX = 16 * MB;
/** Events of one POST /v1/events. */
export const EVENTS_PER_BATCH_MAX = 1_000;
/** Unfinished asynchronous invocations of one function: past it, 429. */
export const EVENTS_PER_FUNCTION_MAX = 100_000;
/** Share of the durable Redis's memory that unfinished events may take before 429, and of which all together 503. */
export const EVENTS_MEMORY_SHARE = 0.4;
export const REDIS_MEMORY_SHARE_MAX = 0.85;
/** Asynchronous invocations of one function that are in the queue proper or run; the others wait in its room. */
export const EVENTS_WINDOW_MAX = 256;
/**
 * And of all functions of one namespace together, unless SKIFF_EVENTS_NAMESPACE_MAX says otherwise: three eighths of what
 * one consumer runs, so that even when all of it is in two of the four shards, other namespaces begin at once.
 */
export const EVENTS_NAMESPACE_WINDOW_MAX = 384;
export const EVENT_DELAY_MS_MAX = 30 * 86_400_000;
export const EVENT_AGE_MS_DEFAULT = 6 * 3_600_000;
export const EVENT_AGE_MS_MAX = 31 * 86_400_000;
export const EVENT_RETRIES_DEFAULT = 2;
export const EVENT_RETRIES_MAX = 10;
export const EVENT_BACKOFF_MS_DEFAULT = 30_000;
export const EVENT_BACKOFF_MS_MAX = 900_000;
/** A function's own Retry-After, at most. */
export const RETRY_AFTER_MS_MAX = 3_600_000;
/** An attempt that its consumer does not renew for this long is lost. */
export const EVENT_LEASE_MS = 10_000;
/** Attempts whose outcome was lost, and runners that ended under one invocation, until it counts as poison. */
export const EVENT_LOST_MAX = 3;
/** Before a lost attempt is repeated, once for each that was lost. */
export const EVENT_LOST_DELAY_MS = 500;
/** The same when its runner was lost as well: by then a node that is silent has been given up (RUNNER_DEAD_MS). */
export const EVENT_DIED_DELAY_MS = 3_000;
export const EVENT_RUNNERS_DIED_MAX = 2;
/** Tries of a destination: with their pauses they take some hours. */
export const DESTINATION_TRIES_MAX = 20;
export const DESTINATION_BACKOFF_MS_MAX = 3_600_000;
/** Waiting jobs of a queue that is a destination. */
export const DESTINATION_QUEUE_JOBS_MAX = 10_000;
/** Jobs of it that failed in their worker. */
export const DESTINATION_QUEUE_FAILED_KEPT = 1_000;
/** A webhook's whole exchange. */
export const WEBHOOK_MS_MAX = 15_000;
/** Of a result, in what a destination is told. */
export const DESTINATION_BODY_BYTES_MAX = 64 * KB;
/** Results in what an event is told that has waited for others; those beyond are told without. */
export const GROUP_BODY_BYTES_MAX = 4 * MB;
/** Records of succeeded and cancelled invocations, and of dead and expired ones. */
export const RECORD_KEPT_MS = 7 * 86_400_000;
export const DEAD_KEPT_MS = 30 * 86_400_000;
export const RESULT_KEPT_MS_DEFAULT = 86_400_000;
/** Body of a call with an Idempotency-Key: it is held to be compared. */
export const IDEMPOTENT_BODY_BYTES_MAX = 1 * MB;
/** An idempotency record, from the end of its invocation on. */
export const IDEMPOTENCY_KEPT_MS = 86_400_000;
/** Durable steps of one invocation, and what they may store: all of it is read when the invocation goes on. */
export const STEPS_MAX = 1_000;
export const STEP_NAME_LENGTH_MAX = 128;
export const STEP_RESULT_BYTES_MAX = 256 * KB;
/** A step's result, and what is said beside it. */
export const STEP_COMMAND_BYTES_MAX = STEP_RESULT_BYTES_MAX + 4 * KB;
export const STEPS_BYTES_MAX = 4 * MB;
export const STEP_SLEEP_MS_MAX = 366 * 86_400_000;
/** How long an invocation waits for an event unless it says otherwise. */
export const STEP_WAIT_MS_DEFAULT = 7 * 86_400_000;
/** Data of an event that invocations wait for. */
export const SIGNAL_BYTES_MAX = 64 * KB;
/** How long such an event is kept for invocations that begin to wait after it was sent; of each name, the newest. */
export const SIGNAL_KEPT_MS = 3_600_000;
export const SIGNALS_KEPT = 1_000;
export const SIGNALS_BYTES_KEPT = 1 * MB;
/** Schedules of one server: each is looked at when it is due. */
export const SCHEDULES_MAX = 10_000;
export const SCHEDULE_EVERY_MS_MAX = 366 * 86_400_000;
/** A tick that could not be fired for this long was missed. */
export const SCHEDULE_LATE_MS = 30_000;
/** Missed ticks that policy `all` makes up for. */
export const SCHEDULE_MISSED_MAX = 100;
/** Longest long poll. Below the idle time-outs of common proxies. */
export const WAIT_MS_MAX = 55_000;

/** Ports below belong to root, which nothing in a sandbox is. */
export const PORT_MIN = 1_024;
/** They travel with the deployment, which is read on every cold start. */
export const FILES_BYTES_MAX = 256 * 1024;

/** A volume is an ext4 file system of its own: below this there is little room beside its journal. */
export const VOLUME_BYTES_MIN = 16 * 1024 ** 2;
export const VOLUME_BYTES_DEFAULT = 1024 ** 3;
/** Sparse on the host's disk, so that the sum may exceed it; one volume should not do so alone by a slip of the pen. */
export const VOLUME_BYTES_MAX = 1024 ** 4;
/** Each takes a loop device of its node while it is in use. */
export const VOLUMES_PER_FUNCTION_MAX = 8;
/** After SIGTERM, for a replica that handles it. */
export const STOP_GRACE_MS = 10_000;
