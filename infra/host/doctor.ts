/**
 * Whether this host can run Skiff, said so that a person knows what to do. The same checks stand before every
 * start of the server. Invariant: only looks, changes nothing; `missing` means that Skiff cannot work as promised.
 */
import { readFileSync } from 'node:fs';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { dataPaths, type ServerState } from '../contract/paths.ts';
import * as audit from './checks/audit.ts';
import { createHostView, ok, type Check, type HostView } from './checks/check.ts';
import * as kernel from './checks/kernel.ts';
import { checkNode, checkPrograms } from './checks/programs.ts';
import { checkSecurity } from './checks/security.ts';
import { registryPort, type HostConfig } from './config.ts';
import { hostPaths } from './data-folder.ts';
import { tryReadProcess } from './process/process-record.ts';
import type { Role } from './roles.ts';
import type { Terminal } from './terminal.ts';

/** Everything but ports: a running server holds its own. */
async function checkHost(view: HostView, config: HostConfig): Promise<Check[]> {
  const isOwnBackbone = config.SKIFF_REDIS_URL === undefined;
  return [
    kernel.checkRoot(process.getuid?.()),
    checkNode(process.versions.node),
    kernel.checkUserNamespaces(view),
    kernel.checkOverlay(view),
    kernel.checkSeccomp(view),
    kernel.checkCgroups(view),
    ...(await checkPrograms(view, config.SKIFF_RUNTIME, isOwnBackbone)),
    await kernel.checkVolumes(view),
    kernel.checkMemory(view),
    kernel.checkDataFolder(view, config.SKIFF_DATA_DIR),
    kernel.checkDisk(config.SKIFF_DATA_DIR),
  ];
}

function checkPorts(view: HostView, config: HostConfig, roles: readonly Role[]): Check[] {
  const checks: Check[] = [];
  if (roles.includes('gateway'))
    checks.push(kernel.checkPort(view, config.SKIFF_GATEWAY_PORT, 'SKIFF_GATEWAY_PORT'));
  const isOwnRegistry = config.SKIFF_REGISTRY_URL === undefined;
  if (isOwnRegistry) checks.push(kernel.checkPort(view, registryPort(config), 'SKIFF_REGISTRY_PORT'));
  return checks;
}

function thisHost(): HostView {
  return createHostView('/', '');
}

function assertNoneMissing(checks: readonly Check[], what: string): void {
  const absent = checks.filter(({ status }) => status === 'missing');
  if (absent.length === 0) return;
  const lines = absent.map(({ detail, fix }) => `\n  ${detail}\n    -> ${fix}`);
  throw new SkiffError('UNAVAILABLE', `${what}:${lines.join('')}\n(skiff doctor shows all checks)`);
}

/** Throws UNAVAILABLE with everything this host lacks. */
export async function assertHostIsFit(config: HostConfig): Promise<void> {
  assertNoneMissing(await checkHost(thisHost(), config), 'this host cannot run the server');
}

/** Throws UNAVAILABLE when another program listens on a port the server needs. */
export async function assertPortsAreFree(config: HostConfig, roles: readonly Role[]): Promise<void> {
  assertNoneMissing(checkPorts(thisHost(), config, roles), 'the server cannot listen');
}

function tryReadRunningServer(config: HostConfig): ServerState | undefined {
  try {
    const state = JSON.parse(
      readFileSync(dataPaths(config.SKIFF_DATA_DIR).serverState, 'utf8'),
    ) as ServerState;
    return tryReadProcess(state.pid) ? state : undefined;
  } catch {
    return undefined;
  }
}

async function auditServer(view: HostView, config: HostConfig): Promise<Check[]> {
  const paths = dataPaths(config.SKIFF_DATA_DIR);
  return [
    audit.checkPrivateFiles({
      root: paths.root,
      secrets: [
        paths.adminToken,
        paths.secretKey,
        hostPaths(paths).redisPassword,
        hostPaths(paths).registryPassword,
      ],
    }),
    audit.checkExposure(config.SKIFF_GATEWAY_HOST),
    await audit.checkForwardPolicy(view),
    audit.checkSandboxes(view, config.SKIFF_DATA_DIR),
  ];
}

export interface DoctorOptions {
  readonly isJson: boolean;
  readonly isSecurity: boolean;
}

/** Prints every check; resolves to exit code 1 when something that must be there is missing. */
export async function runDoctor(
  config: HostConfig,
  terminal: Terminal,
  options: DoctorOptions,
): Promise<number> {
  const view = thisHost();
  const running = tryReadRunningServer(config);
  const ports = running
    ? [ok('server', `runs as pid ${running.pid} at ${running.url}`)]
    : checkPorts(view, config, ['gateway']);
  const checks = [...(await checkHost(view, config)), ...ports];
  if (options.isSecurity) {
    checks.push(...(await checkSecurity(view, config.SKIFF_RUNTIME)), ...(await auditServer(view, config)));
  }
  const isFit = checks.every(({ status }) => status !== 'missing');
  terminal.print(options.isJson ? JSON.stringify({ ok: isFit, checks }, null, 2) : formatChecks(checks));
  return isFit ? 0 : 1;
}

export function formatChecks(checks: readonly Check[]): string {
  const width = Math.max(...checks.map(({ id }) => id.length));
  const lines = checks.flatMap(({ status, id, detail, fix }) => {
    const line = `${status.padEnd(7)}  ${id.padEnd(width)}  ${detail}`;
    return fix === undefined ? [line] : [line, `${' '.repeat(width + 11)}-> ${fix}`];
  });
  const count = (wanted: Check['status']) => checks.filter(({ status }) => status === wanted).length;
  lines.push('', `${count('ok')} ok, ${count('warning')} warnings, ${count('missing')} missing`);
  return lines.join('\n');
}
