/**
 * What `skiff doctor --security` finds about a running server: who may read its files, and what the kernel says of every
 * process in its sandboxes. Invariant: the sandboxes are judged by /proc alone, not by the configuration we meant to give.
 */
import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { missing, ok, warning, type Check, type HostView } from './check.ts';

const UID_MIN = 1_000_000;
const NO_CAPABILITIES = /^0+$/;
const CAPABILITY_SETS = ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'];

/** Path, and which of its mode bits must be off. */
export function checkPrivateFiles(paths: {
  readonly root: string;
  readonly secrets: readonly string[];
}): Check {
  const open = [paths.root, ...paths.secrets].filter((path) => {
    const stat = statSync(path, { throwIfNoEntry: false });
    return stat !== undefined && (stat.mode & 0o077) !== 0;
  });
  if (open.length === 0) return ok('private-files', `${paths.root} and its keys are their owner's alone`);
  return missing('private-files', `others may read ${open.join(', ')}`, `chmod go= ${open.join(' ')}`);
}

export function checkExposure(gatewayHost: string): Check {
  if (gatewayHost === '127.0.0.1' || gatewayHost === '::1' || gatewayHost === 'localhost')
    return ok('exposure', `the gateway listens on ${gatewayHost} alone`);
  return warning(
    'exposure',
    `the gateway listens on ${gatewayHost} without TLS; public functions are open to whoever reaches it`,
    'put a proxy with TLS in front, and set SKIFF_RATE_LIMIT_RPS',
  );
}

/** Docker sets the host's forwarding to "drop what is not mine", which then also stops functions with egress. */
export async function checkForwardPolicy(view: HostView): Promise<Check> {
  const chain = await view.tryRun('nft', ['-j', 'list', 'chain', 'ip', 'filter', 'FORWARD']);
  if (chain === undefined || !chain.includes('"policy": "drop"'))
    return ok('forward-policy', 'no other firewall stops what functions with egress send');
  return warning(
    'forward-policy',
    'another firewall (Docker\u2019s?) drops forwarded packets: functions with egress reach nothing',
    'iptables -I DOCKER-USER -s 198.18.0.0/15 -j ACCEPT, and the same with -d',
  );
}

interface Finding {
  readonly pid: string;
  readonly what: string;
}

/** Judges every process inside a sandbox of the server of this data folder. */
export function checkSandboxes(view: HostView, dataDir: string): Check {
  const mark = `-${createHash('sha256').update(dataDir).digest('hex').slice(0, 8)}/`;
  const pids = view.list('/proc').filter((name) => /^\d+$/.test(name));
  const inside = pids.filter((pid) => {
    const cgroup = view.tryRead(`/proc/${pid}/cgroup`) ?? '';
    return cgroup.includes(mark) && isContained(view.tryRead(`/proc/${pid}/status`) ?? '');
  });
  const findings = inside.flatMap((pid) => judge(pid, view.tryRead(`/proc/${pid}/status`) ?? ''));
  if (findings.length === 0) {
    const count = inside.length;
    return ok(
      'sandboxes',
      `${count} processes: no capabilities, no_new_privs, filtered, uids above ${UID_MIN}`,
    );
  }
  const list = findings.slice(0, 5).map(({ pid, what }) => `${pid} ${what}`);
  return missing(
    'sandboxes',
    `processes in sandboxes are not confined: ${list.join('; ')}`,
    'stop the server and report this',
  );
}

/** In a pid namespace of its own: the runtime beside it is not. */
function isContained(status: string): boolean {
  return (fieldOf(status, 'NSpid') ?? '').split(/\s+/).length > 1;
}

function judge(pid: string, status: string): Finding[] {
  const findings: string[] = [];
  for (const name of CAPABILITY_SETS) {
    if (!NO_CAPABILITIES.test(fieldOf(status, name) ?? '')) findings.push(`has capabilities (${name})`);
  }
  if (fieldOf(status, 'NoNewPrivs') !== '1') findings.push('may gain privileges');
  if (fieldOf(status, 'Seccomp') !== '2') findings.push('has no system call filter');
  const uids = (fieldOf(status, 'Uid') ?? '').split(/\s+/).map(Number);
  if (uids.some((uid) => !(uid >= UID_MIN))) findings.push('has a uid of the host');
  return findings.map((what) => ({ pid, what }));
}

function fieldOf(status: string, name: string): string | undefined {
  return new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1]?.trim();
}
