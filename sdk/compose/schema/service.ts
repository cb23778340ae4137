/**
 * One service as the Compose Specification allows it to be written, short and long forms alike, in zod: of a choice
 * of forms it says what is wrong. The specification's own schema has the last word (specification.ts).
 */
import { z } from 'zod';
import {
  anything,
  assignments,
  duration,
  flag,
  mapping,
  number,
  scalar,
  size,
  text,
  textList,
  whole,
} from './words.ts';

const command = z.union([z.null(), text, textList], 'must be a command or a list of words');
const grants = z.array(
  z.union([
    text,
    mapping({
      source: text,
      target: text.optional(),
      uid: text.optional(),
      gid: text.optional(),
      mode: number.optional(),
    }),
  ]),
);
const ulimits = z.record(z.string(), z.union([whole, mapping({ soft: whole, hard: whole })]));
const hook = mapping({
  command,
  user: text.optional(),
  privileged: flag.optional(),
  working_dir: text.optional(),
  environment: assignments.optional(),
});

const build = mapping({
  context: text.optional(),
  dockerfile: text.optional(),
  dockerfile_inline: text.optional(),
  entitlements: textList.optional(),
  args: assignments.optional(),
  ssh: assignments.optional(),
  labels: assignments.optional(),
  cache_from: textList.optional(),
  cache_to: textList.optional(),
  no_cache: flag.optional(),
  additional_contexts: assignments.optional(),
  network: text.optional(),
  provenance: z.union([flag, text]).optional(),
  sbom: z.union([flag, text]).optional(),
  pull: flag.optional(),
  target: text.optional(),
  shm_size: size.optional(),
  extra_hosts: anything.optional(),
  isolation: text.optional(),
  privileged: flag.optional(),
  secrets: grants.optional(),
  tags: textList.optional(),
  ulimits: ulimits.optional(),
  platforms: textList.optional(),
});

const healthcheck = mapping({
  disable: flag.optional(),
  interval: duration.optional(),
  retries: whole.optional(),
  test: z.union([text, textList]).optional(),
  timeout: duration.optional(),
  start_period: duration.optional(),
  start_interval: duration.optional(),
});

const update = mapping({
  parallelism: whole.optional(),
  delay: duration.optional(),
  failure_action: z.enum(['continue', 'pause', 'rollback']).optional(),
  monitor: duration.optional(),
  max_failure_ratio: number.optional(),
  order: z.enum(['start-first', 'stop-first']).optional(),
}).nullable();

const deploy = mapping({
  mode: text.optional(),
  endpoint_mode: text.optional(),
  /** A range such as `0..10` is ours: it makes a service a function that scales. */
  replicas: z
    .union([whole, z.string().regex(/^\d+\.\.\d+$/)], 'must be a number, or a range such as 0..10')
    .optional(),
  labels: assignments.optional(),
  rollback_config: update.optional(),
  update_config: update.optional(),
  resources: mapping({
    limits: mapping({ cpus: number.optional(), memory: size.optional(), pids: whole.optional() })
      .nullable()
      .optional(),
    reservations: mapping({
      cpus: number.optional(),
      memory: size.optional(),
      generic_resources: anything.optional(),
      devices: anything.optional(),
    })
      .nullable()
      .optional(),
  })
    .nullable()
    .optional(),
  restart_policy: mapping({
    condition: z.enum(['none', 'no', 'on-failure', 'any', 'always', 'unless-stopped']).optional(),
    delay: duration.optional(),
    max_attempts: whole.optional(),
    window: duration.optional(),
  })
    .nullable()
    .optional(),
  placement: mapping({
    constraints: textList.optional(),
    preferences: z.array(mapping({ spread: text.optional() })).optional(),
    max_replicas_per_node: whole.optional(),
  })
    .nullable()
    .optional(),
}).nullable();

const port = mapping({
  name: text.optional(),
  mode: text.optional(),
  host_ip: text.optional(),
  target: whole,
  published: z.union([text, z.int()]).optional(),
  protocol: text.optional(),
  app_protocol: text.optional(),
});

const volume = mapping({
  type: z.enum(['bind', 'volume', 'tmpfs', 'npipe', 'cluster', 'image']),
  source: text.optional(),
  target: text,
  read_only: flag.optional(),
  consistency: text.optional(),
  bind: anything.optional(),
  volume: anything.optional(),
  tmpfs: anything.optional(),
  image: anything.optional(),
});

const dependency = mapping({
  condition: z.enum(['service_started', 'service_healthy', 'service_completed_successfully']),
  restart: flag.optional(),
  required: flag.optional(),
});

const envFile = z.union([text, mapping({ path: text, required: flag.optional(), format: text.optional() })]);

/** Everything about one container that is not looked into further: accepted by its name, judged by support.ts. */
const HOST_KEYS = [
  'attach',
  'blkio_config',
  'cap_add',
  'cap_drop',
  'cgroup',
  'cgroup_parent',
  'container_name',
  'cpu_count',
  'cpu_percent',
  'cpu_period',
  'cpu_quota',
  'cpu_rt_period',
  'cpu_rt_runtime',
  'cpu_shares',
  'cpuset',
  'credential_spec',
  'develop',
  'device_cgroup_rules',
  'devices',
  'dns',
  'dns_opt',
  'dns_search',
  'domainname',
  'external_links',
  'extra_hosts',
  'gpus',
  'group_add',
  'hostname',
  'init',
  'ipc',
  'isolation',
  'label_file',
  'links',
  'logging',
  'mac_address',
  'mem_reservation',
  'mem_swappiness',
  'memswap_limit',
  'models',
  'network_mode',
  'oom_kill_disable',
  'oom_score_adj',
  'pid',
  'pids_limit',
  'platform',
  'privileged',
  'pull_policy',
  'pull_refresh_after',
  'read_only',
  'runtime',
  'security_opt',
  'shm_size',
  'stdin_open',
  'stop_grace_period',
  'stop_signal',
  'storage_opt',
  'sysctls',
  'tmpfs',
  'tty',
  'use_api_socket',
  'user',
  'userns_mode',
  'uts',
  'volumes_from',
  'working_dir',
] as const;

const hostKeys = Object.fromEntries(HOST_KEYS.map((key) => [key, anything.optional()])) as Record<
  (typeof HOST_KEYS)[number],
  z.ZodOptional<z.ZodUnknown>
>;

export const ServiceSchema = mapping({
  ...hostKeys,
  annotations: assignments.optional(),
  build: z.union([text, build]).optional(),
  command: command.optional(),
  configs: grants.optional(),
  cpus: number.optional(),
  depends_on: z.union([textList, z.record(z.string(), dependency)]).optional(),
  deploy: deploy.optional(),
  entrypoint: command.optional(),
  env_file: z.union([text, z.array(envFile)]).optional(),
  environment: assignments.optional(),
  expose: z.array(z.union([text, z.int()])).optional(),
  extends: z.union([text, mapping({ service: text, file: text.optional() })]).optional(),
  healthcheck: healthcheck.nullable().optional(),
  image: text.optional(),
  labels: assignments.optional(),
  mem_limit: size.optional(),
  networks: z.union([textList, z.record(z.string(), z.union([z.null(), z.looseObject({})]))]).optional(),
  ports: z.array(z.union([text, z.int(), port])).optional(),
  post_start: z.array(hook).optional(),
  pre_start: anything.optional(),
  pre_stop: z.array(hook).optional(),
  profiles: textList.optional(),
  provider: mapping({
    type: text,
    options: z.record(z.string(), z.union([scalar, z.array(scalar)])).optional(),
  }).optional(),
  restart: text.optional(),
  scale: whole.optional(),
  secrets: grants.optional(),
  umask: anything.optional(),
  ulimits: ulimits.optional(),
  volumes: z.array(z.union([text, volume])).optional(),
});

/** Keys of the specification, without extensions. */
export const SERVICE_KEYS: readonly string[] = Object.keys(ServiceSchema.shape);
