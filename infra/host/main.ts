/**
 * `skiff server`, `skiff doctor`, `skiff swarm join` and `leave`: one host's supervisor. It starts the backbone (unless URLs are given) and the
 * roles as processes of their own, keeps them running, and stops them in order. It imports no service.
 * Exit codes: 0 stopped as asked, 1 failed, 2 wrong arguments or settings.
 */
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { runCells } from './cells/command.ts';
import { runDoctor } from './doctor.ts';
import { KNOWN_SETTINGS } from '../lib/config.ts';
import { loadHostConfig, type HostConfig } from './config.ts';
import { dataPaths } from '../contract/paths.ts';
import { tryReadNode } from '../swarm/identity.ts';
import { assertToken, joinSwarm, leaveSwarm } from './membership.ts';
import { parseRoles, readVersion, runServer } from './server.ts';
import { createTerminal } from './terminal.ts';

const rootDir = resolve(import.meta.dirname, '../..');
const terminal = createTerminal(process.stdout, process.stderr);

const HELP = `Usage: skiff server [--role gateway|events|builder|runner]... [--demo] [--print-config]
       skiff server cells --to <url> --cells <count> [--abort]
       skiff doctor [--security] [--json]

  --role <role>    run only this role, against SKIFF_REDIS_URL and SKIFF_REGISTRY_URL
  --demo           deploy and call an example when everything is up
  --print-config   print the settings of the supervisor and end
  --to <url>       move the durable store there, as SKIFF_REDIS_URL names it; every server is stopped
  --cells <count>  to as many cells. What is cut off is run again; the store that it came from is closed
  --abort          give a move up that was cut off; the store is used as before
  --security       also check how hard this host is underneath the sandboxes
  --json           print the checks as JSON

Settings (environment; NAME_FILE reads the value from a file):
  ${[...KNOWN_SETTINGS].join('\n  ')}

The server prints "ready <url>" when it can be used, and ends on SIGINT or SIGTERM.`;

/** Ctrl-C under npm arrives twice, from the terminal and from npm: only one that comes later means "now". */
const SECOND_SIGNAL_AFTER_MS = 1_500;

function onStopSignals(stop: () => void, stopNow: () => void): void {
  let firstAt: number | undefined;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (firstAt === undefined) {
        firstAt = performance.now();
        stop();
      } else if (performance.now() - firstAt > SECOND_SIGNAL_AFTER_MS) {
        stopNow();
      }
    });
  }
}

/** The manager to join at before the server starts; undefined when there is nothing to join. */
function joinTarget(verb: string, manager: string | undefined, config: HostConfig): string | undefined {
  if (verb === 'server')
    return tryReadNode(dataPaths(config.SKIFF_DATA_DIR).swarm) ? undefined : config.SKIFF_JOIN_MANAGER;
  if (verb !== 'join')
    throw new SkiffError(
      'INVALID_CONFIG',
      `unknown verb "${verb}"; there are server, doctor, join and leave`,
    );
  const target = manager ?? config.SKIFF_JOIN_MANAGER;
  if (target === undefined)
    throw new SkiffError('INVALID_CONFIG', 'name a manager: skiff swarm join <host:port>');
  return target;
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      help: { type: 'boolean', short: 'h', default: false },
      role: { type: 'string', multiple: true, default: [] },
      demo: { type: 'boolean', default: false },
      'print-config': { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      security: { type: 'boolean', default: false },
      to: { type: 'string' },
      cells: { type: 'string' },
      abort: { type: 'boolean', default: false },
      token: { type: 'string' },
      'advertise-addr': { type: 'string' },
      'no-start': { type: 'boolean', default: false },
      force: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    terminal.print(HELP);
    return 0;
  }
  const [verb = 'server', manager] = positionals;
  const config = loadHostConfig(process.env);
  if (values['print-config']) {
    terminal.print(JSON.stringify(config, null, 2));
    return 0;
  }
  if (verb === 'doctor')
    return await runDoctor(config, terminal, { isJson: values.json, isSecurity: values.security });
  if (verb === 'server' && manager === 'cells') {
    const { to, cells, abort } = values;
    return await runCells({ config, env: process.env, terminal, to, cells, isAborted: abort });
  }
  if (verb === 'leave') {
    const { nodeId } = await leaveSwarm(config, values.force);
    terminal.print(`${nodeId} left the swarm`);
    return 0;
  }
  const target = joinTarget(verb, manager, config);
  if (target !== undefined) {
    const token = assertToken(values.token, process.env);
    const advertiseAddr = values['advertise-addr'];
    const options = { config, version: readVersion(rootDir), token, manager: target, advertiseAddr };
    const node = await joinSwarm(options);
    terminal.note(`this host is ${node.role} ${node.nodeId} of swarm ${node.swarm}`);
    if (values['no-start']) return 0;
  }
  return await runServer({
    config,
    env: process.env,
    rootDir,
    roles: parseRoles(values.role),
    isDemo: values.demo,
    terminal,
    onStopSignals: (stop) => onStopSignals(stop, () => process.exit(1)),
  });
}

try {
  // What still hangs in the event loop (a kept-alive connection) must not keep a stopped server running.
  process.exit(await main());
} catch (error) {
  const isOurs = error instanceof SkiffError;
  const isUsage =
    error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS');
  terminal.note(isOurs || isUsage ? error.message : String(error instanceof Error ? error.stack : error));
  process.exit(isUsage || (isOurs && error.code === 'INVALID_CONFIG') ? 2 : 1);
}
