/**
 * What Skiff does with each key of a service. Invariant: every key of the specification has a row (a test looks), so
 * that a key is used, is known to be moot, or is refused with a reason; none is passed over.
 */
import { isImage, kindOf, tryFindContainerfile } from './kind.ts';
import type { Project, Service } from './model.ts';
import { readyPathOf } from './service-wish.ts';
import { checkDeploy, checkPorts } from './support-inside.ts';
import { checkDefinitions, checkVolumes } from './volumes.ts';
import { SERVICE_KEYS } from './schema/service.ts';

/** `used`; `moot: …` why it changes nothing here; `no: …` why it cannot be done. */
type Treatment = 'used' | `moot: ${string}` | `no: ${string}`;

interface Row {
  readonly function: Treatment;
  readonly service: Treatment;
}

const USED: Row = { function: 'used', service: 'used' };
const both = (treatment: Treatment): Row => ({ function: treatment, service: treatment });
const serviceOnly = (why: `moot: ${string}` | `no: ${string}`): Row => ({ function: why, service: 'used' });

const SHARED_HOST = 'no: sandboxes share no namespace with the host or each other';
const NO_DEVICES = 'no: sandboxes have no devices';
const NOT_PRIVILEGED = 'no: sandboxes have no capabilities and cannot be given any';
const SET_BY_LIMITS = 'no: say deploy.resources.limits, mem_limit or cpus instead';

const ROWS: Readonly<Record<string, Row>> = {
  annotations: both('moot: nothing reads annotations'),
  attach: both('moot: skiff logs shows all'),
  blkio_config: both('no: block devices are not limited'),
  build: USED,
  cap_add: both(NOT_PRIVILEGED),
  cap_drop: both('moot: sandboxes have no capabilities'),
  cgroup: both(SHARED_HOST),
  cgroup_parent: both(SHARED_HOST),
  command: USED,
  configs: USED,
  container_name: both('moot: sandboxes have names of their own'),
  cpu_count: both(SET_BY_LIMITS),
  cpu_percent: both(SET_BY_LIMITS),
  cpu_period: both(SET_BY_LIMITS),
  cpu_quota: both(SET_BY_LIMITS),
  cpu_rt_period: both(SET_BY_LIMITS),
  cpu_rt_runtime: both(SET_BY_LIMITS),
  cpu_shares: both(SET_BY_LIMITS),
  cpus: USED,
  cpuset: both('no: sandboxes are not pinned to processors'),
  credential_spec: both('no: it is for Windows'),
  depends_on: USED,
  deploy: USED,
  develop: both('moot: skiff dev watches by itself'),
  device_cgroup_rules: both(NO_DEVICES),
  devices: both(NO_DEVICES),
  dns: both('no: names are resolved by the host'),
  dns_opt: both('no: names are resolved by the host'),
  dns_search: both('no: names are resolved by the host'),
  domainname: both('no: sandboxes have no domain'),
  entrypoint: USED,
  env_file: USED,
  environment: USED,
  expose: USED,
  extends: USED,
  external_links: both('no: there are no containers beside those of Skiff'),
  extra_hosts: both('no: names are resolved by the host'),
  gpus: both(NO_DEVICES),
  group_add: both('no: a sandbox has one user and one group'),
  healthcheck: serviceOnly('moot: a function is live once it has started'),
  hostname: both('moot: sandboxes have names of their own'),
  image: USED,
  init: both('moot: processes that are left behind are always collected'),
  ipc: both(SHARED_HOST),
  isolation: both('no: it is for Windows'),
  label_file: both('no: write the labels under labels'),
  labels: USED,
  links: both('no: services reach each other by name without links; remove it'),
  logging: both('moot: logs are kept and shown by Skiff'),
  mac_address: both('no: addresses are given by Skiff'),
  mem_limit: USED,
  mem_reservation: both('moot: placement goes by the limit'),
  mem_swappiness: both('no: sandboxes do not swap'),
  memswap_limit: both('no: sandboxes do not swap'),
  models: both('no: Skiff serves no models'),
  network_mode: both('no: say x-skiff-function.network, or networks'),
  networks: both('moot: members reach what they declare in calls, and the network by their policy'),
  oom_kill_disable: both('no: a sandbox that exceeds its memory is ended'),
  oom_score_adj: both('no: a sandbox that exceeds its memory is ended'),
  pid: both(SHARED_HOST),
  pids_limit: both('no: the limit of processes is the platform\u2019s'),
  platform: both('moot: images are for the hosts\u2019 own platform'),
  ports: USED,
  post_start: both('no: hooks are not run'),
  pre_start: both('no: hooks are not run'),
  pre_stop: both('no: hooks are not run'),
  privileged: both(NOT_PRIVILEGED),
  profiles: USED,
  provider: USED,
  pull_policy: both('moot: images are pulled when their digest is new'),
  pull_refresh_after: both('moot: images are pulled when their digest is new'),
  read_only: both('moot: the root of a sandbox is always read-only'),
  restart: both('moot: what ends is started again: a function by the next call, a replica at once'),
  runtime: both('no: the OCI runtime is the host\u2019s choice'),
  scale: USED,
  secrets: USED,
  security_opt: both('moot: no-new-privileges and seccomp are always on'),
  shm_size: both('no: sandboxes have no /dev/shm of a size of its own'),
  stdin_open: both('moot: there is no terminal'),
  stop_grace_period: both('moot: a sandbox has ten seconds to end'),
  stop_signal: both('no: sandboxes are ended with SIGTERM'),
  storage_opt: both('no: the root of a sandbox is read-only'),
  sysctls: both('no: sandboxes have the host\u2019s settings'),
  tmpfs: both('moot: /tmp is always in memory, with a limit'),
  tty: both('moot: there is no terminal'),
  ulimits: both('no: limits are the platform\u2019s'),
  umask: both('no: a program sets its own'),
  use_api_socket: both('no: there is no Docker to talk to'),
  user: both('moot: a sandbox runs as one unprivileged user of its own'),
  userns_mode: both(SHARED_HOST),
  uts: both(SHARED_HOST),
  volumes: USED,
  volumes_from: both('no: name the volume under volumes'),
  working_dir: both('no: a function is started in its own folder, an image where it says'),
};

export interface Finding {
  /** `services.api.privileged` */
  readonly path: string;
  readonly reason: string;
}

export interface Judgement {
  /** Cannot be done. */
  readonly refused: readonly Finding[];
  /** Change nothing here. */
  readonly moot: readonly Finding[];
}

export function judge({ services, volumes }: Pick<Project, 'services' | 'volumes'>): Judgement {
  const refused: Finding[] = [];
  const moot: Finding[] = [];
  for (const service of services) {
    const kind = kindOf(service);
    for (const key of Object.keys(service.raw).filter((one) => !one.startsWith('x-'))) {
      const treatment = ROWS[key]?.[kind] ?? 'no: it is not known';
      const [word, reason] = treatment.split(': ', 2);
      const path = `services.${service.name}.${key}`;
      if (word === 'no') refused.push({ path, reason: reason as string });
      if (word === 'moot') moot.push({ path, reason: reason as string });
    }
    const inside = findInside(service, services);
    refused.push(...inside.refused);
    moot.push(...inside.moot);
  }
  checkDefinitions(
    volumes,
    (path, reason) => void refused.push({ path, reason }),
    (path, reason) => void moot.push({ path, reason }),
  );
  return { refused, moot };
}

const BUILD_REFUSED: Readonly<Record<string, string>> = {
  additional_contexts: 'a build has one folder; put what it needs into it',
  dockerfile_inline: 'write it into a file',
  entitlements: 'builds run in a sandbox and get no more rights',
  network: 'name what its steps may reach: x-skiff-service: { build: { network: { allow: [host:443] } } }',
  privileged: 'builds run in a sandbox and get no more rights',
  secrets: 'builds are given no secrets',
  ssh: 'builds have no network',
};

const STARTED = 'a handler is started by its runtime; only an image is started as you say';
const OF_IMAGES = [
  ['ports', 'all is reached through the gateway, at /f/<name>; remove ports'],
  ['expose', 'all is reached through the gateway, at /f/<name>; remove expose'],
  ['command', STARTED],
  ['entrypoint', STARTED],
  ['configs', 'put the file into the source, where the function finds it'],
  ['volumes', 'put the files into the source, where the function finds them'],
] as const;

/** Below keys that are used. */
function findInside(service: Service, services: readonly Service[]): Judgement {
  const { name, build, provider, dependsOn } = service;
  const found: Finding[] = [];
  const moot: Finding[] = [];
  const refuse = (path: string, reason: string): void =>
    void found.push({ path: `services.${name}.${path}`, reason });
  const pass = (path: string, reason: string): void =>
    void moot.push({ path: `services.${name}.${path}`, reason });
  if (isImage(service)) {
    checkPorts(service, refuse, pass);
    checkVolumes(service, services, refuse, pass);
  } else for (const [key, reason] of OF_IMAGES) if (service.raw[key] !== undefined) refuse(key, reason);
  checkDeploy(service, refuse, pass);
  if (build && /^(?:[a-z][a-z0-9+.-]*:\/\/|git@)/i.test(build.context))
    refuse('build.context', 'a context is a folder here; clone the repository first');
  for (const key of Object.keys(build ?? {}))
    if (key in BUILD_REFUSED) refuse(`build.${key}`, BUILD_REFUSED[key] as string);
  if (build && tryFindContainerfile(service) === undefined)
    for (const key of ['args', 'target'] as const)
      if (build[key] !== undefined)
        refuse(`build.${key}`, 'only a Containerfile knows it, and there is none');
  for (const [key, value] of Object.entries(build?.args ?? {}))
    if (value === null) refuse(`build.args.${key}`, `give it a value, such as \${${key}}`);
  if (provider && provider.type !== 'skiff')
    refuse('provider', `the provider "${provider.type}" is not run by Skiff`);
  if (
    kindOf(service) === 'service' &&
    service.healthcheck?.disable === false &&
    readyPathOf(service) === undefined
  )
    refuse(
      'healthcheck.test',
      'only an HTTP request is made, so name a URL: curl -f http://localhost/health',
    );
  for (const [other, { condition }] of Object.entries(dependsOn)) {
    const needed = services.find((one) => one.name === other);
    if (condition === 'service_completed_successfully' && needed && kindOf(needed) === 'service')
      refuse(
        `depends_on.${other}.condition`,
        `${other} is kept running and does not end; with x-skiff-function it is called once, and has ended when it answers 2xx`,
      );
  }
  return { refused: found, moot };
}

/** Every key of the specification with what happens to it. */
export function listSupport(): readonly (readonly [key: string, row: Row])[] {
  return SERVICE_KEYS.map((key) => [key, ROWS[key] as Row] as const);
}

/** keys.md, which a test compares with this. */
export function formatSupport(): string {
  const cell = (treatment: Treatment): string =>
    treatment
      .replace(/^moot: /, '(')
      .replace(/^no: /, '**no**: ')
      .replace(/^(\(.*)$/, '$1)');
  const rows = listSupport().map(
    ([key, row]) => `| \`${key}\` | ${cell(row.function)} | ${cell(row.service)} |`,
  );
  return `# Keys of services

What Skiff does with each key of a service in a compose file: it is used, it changes nothing here (the reason stands in
parentheses), or it is refused. \`skiff config --unsupported\` lists those of your files, also those below \`build\`,
\`deploy\` and \`ports\`. \`command\`, \`configs\`, \`entrypoint\`, \`expose\`, \`ports\` and \`volumes\` say how a program is started and
are for images: members with \`image\`, or with a Containerfile in \`build\`. Beside them: \`extends\`, \`include\`,
\`profiles\`, several files, \`!reset\` and \`!override\`, and variables with all their forms.

Of \`volumes\`, folders and files that are bound read-only are files of the image, as they are at the time of \`skiff up\`. A
named volume is kept on the node where its service ran first: an ext4 file system of its own, of \`driver_opts.size\` at most
(1 GB when it is not said), mounted nosuid, nodev and noexec. It has one user, a service with one replica, which always
runs on that node; a new deployment starts when the old one has ended. It begins with what the image has at its place.
\`skiff down\` leaves it, \`skiff down -v\` and \`skiff volume rm\` remove it.

| key | function | service |
| --- | --- | --- |
${rows.join('\n')}
`;
}
