/** The programs Skiff runs, and their oldest versions that do what it needs. */
import { missing, ok, warning, type Check, type HostView } from './check.ts';

interface Program {
  readonly command: string;
  readonly versionArgs: readonly string[];
  /** Debian's package. */
  readonly package: string;
  readonly versionMin: string;
  /** Why that version. */
  readonly reason: string;
}

const PROGRAMS: readonly Program[] = [
  {
    command: 'redis-server',
    versionArgs: ['--version'],
    package: 'redis-server',
    versionMin: '6.2',
    reason: 'the queue needs it',
  },
  {
    command: 'docker-registry',
    versionArgs: ['--version'],
    package: 'docker-registry',
    versionMin: '2.7',
    reason: 'it takes OCI images',
  },
  {
    command: 'nft',
    versionArgs: ['--version'],
    package: 'nftables',
    versionMin: '1.0',
    reason: 'network policies',
  },
  {
    command: 'ip',
    versionArgs: ['-V'],
    package: 'iproute2',
    versionMin: '5.10',
    reason: 'network namespaces',
  },
  {
    command: 'setpriv',
    versionArgs: ['--version'],
    package: 'util-linux',
    versionMin: '2.33',
    reason: '--pdeathsig',
  },
];

const RUNTIMES: readonly Program[] = [
  {
    command: 'crun',
    versionArgs: ['--version'],
    package: 'crun',
    versionMin: '1.8',
    reason: 'mount propagation and user namespaces',
  },
  {
    command: 'runc',
    versionArgs: ['--version'],
    package: 'runc',
    versionMin: '1.1.5',
    reason: 'CVE-2024-21626',
  },
];

export function parseVersion(text: string): string | undefined {
  return /(\d+\.\d+(?:\.\d+)?)/.exec(text)?.[1];
}

/** Whether dotted `version` is at least `min`, number by number. */
export function isAtLeast(version: string, min: string): boolean {
  const numbers = version.split('.').map(Number);
  for (const [index, wanted] of min.split('.').map(Number).entries()) {
    const found = numbers[index] ?? 0;
    if (found !== wanted) return found > wanted;
  }
  return true;
}

async function checkProgram(view: HostView, program: Program): Promise<Check> {
  const id = `program-${program.command}`;
  const install = `apt-get install --no-install-recommends ${program.package}`;
  const line = await view.tryRun(program.command, program.versionArgs);
  if (line === undefined) return missing(id, `${program.command} is not installed`, install);
  const version = parseVersion(line);
  if (version === undefined)
    return warning(id, `${program.command}: no version in "${line}"`, 'check that it is the real program');
  if (isAtLeast(version, program.versionMin)) return ok(id, `${program.command} ${version}`);
  return missing(
    id,
    `${program.command} ${version}; ${program.versionMin} is needed (${program.reason})`,
    install,
  );
}

/** `isOwnBackbone`: whether this host runs its own Redis and registry. */
export async function checkPrograms(
  view: HostView,
  runtime: string,
  isOwnBackbone: boolean,
): Promise<Check[]> {
  const wanted = PROGRAMS.filter(
    ({ command }) => isOwnBackbone || !['redis-server', 'docker-registry'].includes(command),
  );
  const unknown: Program = {
    command: runtime,
    versionArgs: ['--version'],
    package: runtime,
    versionMin: '0.0',
    reason: '',
  };
  const oci = RUNTIMES.find(({ command }) => command === runtime) ?? unknown;
  return await Promise.all([oci, ...wanted].map((program) => checkProgram(view, program)));
}

/** The oldest Node that runs the platform's TypeScript as it is and has what the runner calls. */
const NODE_MAJOR_MIN = 26;

export function checkNode(version: string): Check {
  if (Number(version.split('.')[0]) >= NODE_MAJOR_MIN) return ok('node', `Node ${version}`);
  return missing(
    'node',
    `Node ${version}; ${NODE_MAJOR_MIN} is needed`,
    'use npm start or npx skiff, which run the Node of node_modules',
  );
}
