/**
 * Every command: its name, what else people call it, one line on it, and the file that has the rest. Only the file
 * of the command that runs is loaded; help and "did you mean" need no more than this table.
 */
import type { Command } from '@commander-js/extra-typings';
import type { Session } from './session.ts';

export interface CommandModule {
  /** Adds arguments, options, examples and the action. */
  define(command: Command, session: Session): unknown;
}

export interface CommandEntry {
  readonly name: string;
  /** Names of docker, wrangler, faas-cli, flyctl and vercel for the same thing; accepted, not listed. */
  readonly aliases?: readonly string[];
  readonly summary: string;
  readonly group: string;
  readonly load: () => Promise<CommandModule>;
}

const FUNCTIONS = 'Functions:';
const OBSERVE = 'Looking closer:';
const APPLICATIONS = 'Applications (compose.yaml):';
const RELEASES = 'Releases:';
const EVENTS = 'Events:';
const SERVER = 'Server:';
const SWARM = 'Swarm:';
const ACCESS = 'Access:';
const TOOL = 'This tool:';

export const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'init',
    aliases: ['new'],
    summary: 'write a new function from a template',
    group: FUNCTIONS,
    load: () => import('./commands/functions/init.ts'),
  },
  {
    name: 'dev',
    aliases: ['local-run', 'watch'],
    summary: 'run functions here while you write them',
    group: FUNCTIONS,
    load: () => import('./commands/functions/dev.ts'),
  },
  {
    name: 'deploy',
    aliases: ['publish'],
    summary: 'build a file or folder and make it live',
    group: FUNCTIONS,
    load: () => import('./commands/functions/deploy.ts'),
  },
  {
    name: 'build',
    summary: 'build a file or folder and show what is in it, without deploying',
    group: FUNCTIONS,
    load: () => import('./commands/functions/build.ts'),
  },
  {
    name: 'invoke',
    aliases: ['call', 'curl'],
    summary: 'call a function and print its answer',
    group: FUNCTIONS,
    load: () => import('./commands/functions/invoke.ts'),
  },
  {
    name: 'ls',
    aliases: ['list'],
    summary: 'list functions',
    group: FUNCTIONS,
    load: () => import('./commands/functions/ls.ts'),
  },
  {
    name: 'inspect',
    aliases: ['describe', 'status', 'info'],
    summary: 'show one function in full',
    group: FUNCTIONS,
    load: () => import('./commands/functions/inspect.ts'),
  },
  {
    name: 'logs',
    aliases: ['log', 'tail'],
    summary: 'show what a function logged',
    group: FUNCTIONS,
    load: () => import('./commands/functions/logs.ts'),
  },
  {
    name: 'env',
    aliases: ['vars', 'variables'],
    summary: 'list, set and remove variables of a function',
    group: FUNCTIONS,
    load: () => import('./commands/functions/env.ts'),
  },
  {
    name: 'open',
    summary: 'open a function in the browser',
    group: FUNCTIONS,
    load: () => import('./commands/functions/open.ts'),
  },
  {
    name: 'types',
    aliases: ['typegen'],
    summary: 'write the types of a client from functions',
    group: FUNCTIONS,
    load: () => import('./commands/functions/typed-client.ts'),
  },
  {
    name: 'rm',
    aliases: ['remove', 'delete', 'destroy'],
    summary: 'remove functions',
    group: FUNCTIONS,
    load: () => import('./commands/functions/rm.ts'),
  },
  {
    name: 'stats',
    aliases: ['top'],
    summary: 'show what functions do now, live',
    group: OBSERVE,
    load: () => import('./commands/observe/stats.ts'),
  },
  {
    name: 'trace',
    summary: 'show where the time of an invocation went',
    group: OBSERVE,
    load: () => import('./commands/observe/trace.ts'),
  },
  {
    name: 'bench',
    aliases: ['benchmark', 'load'],
    summary: 'measure a function, warm and cold',
    group: OBSERVE,
    load: () => import('./commands/observe/bench.ts'),
  },
  {
    name: 'up',
    summary: 'create or update the application of a compose file',
    group: APPLICATIONS,
    load: () => import('./commands/application/up.ts'),
  },
  {
    name: 'down',
    summary: 'remove the application of a compose file',
    group: APPLICATIONS,
    load: () => import('./commands/application/down.ts'),
  },
  {
    name: 'ps',
    summary: 'show what an application has on the server',
    group: APPLICATIONS,
    load: () => import('./commands/application/ps.ts'),
  },
  {
    name: 'config',
    aliases: ['convert'],
    summary: 'check compose files and print what they come to',
    group: APPLICATIONS,
    load: () => import('./commands/application/config.ts'),
  },
  {
    name: 'compose',
    summary: 'provider of docker compose: functions beside containers',
    group: APPLICATIONS,
    load: () => import('./commands/application/compose.ts'),
  },
  {
    name: 'versions',
    aliases: ['releases', 'deployments', 'history'],
    summary: 'list the deployments of a function',
    group: RELEASES,
    load: () => import('./commands/releases/versions.ts'),
  },
  {
    name: 'rollback',
    aliases: ['undo'],
    summary: 'go back to an earlier deployment',
    group: RELEASES,
    load: () => import('./commands/releases/rollback.ts'),
  },
  {
    name: 'promote',
    summary: 'give a deployment all traffic, or a share of it',
    group: RELEASES,
    load: () => import('./commands/releases/promote.ts'),
  },
  {
    name: 'scale',
    summary: 'show or change the limits of a function',
    group: RELEASES,
    load: () => import('./commands/releases/scale.ts'),
  },
  {
    name: 'restart',
    summary: 'give a function new sandboxes',
    group: RELEASES,
    load: () => import('./commands/releases/restart.ts'),
  },
  {
    name: 'invocation',
    aliases: ['invocations', 'events'],
    summary: 'show, wait for and cancel asynchronous invocations',
    group: EVENTS,
    load: () => import('./commands/events/invocation.ts'),
  },
  {
    name: 'event',
    aliases: ['signal'],
    summary: 'send events that invocations wait for; the state of the queue',
    group: EVENTS,
    load: () => import('./commands/events/event.ts'),
  },
  {
    name: 'map',
    aliases: ['batch'],
    summary: 'run a function over every line of a file',
    group: EVENTS,
    load: () => import('./commands/events/map.ts'),
  },
  {
    name: 'replay',
    aliases: ['rerun'],
    summary: 'run a recorded event again, elsewhere or here',
    group: EVENTS,
    load: () => import('./commands/events/replay.ts'),
  },
  {
    name: 'cron',
    aliases: ['schedule', 'schedules', 'triggers'],
    summary: 'run functions by the clock',
    group: EVENTS,
    load: () => import('./commands/events/cron.ts'),
  },
  {
    name: 'dlq',
    aliases: ['dead'],
    summary: 'list, replay and purge what could not be done',
    group: EVENTS,
    load: () => import('./commands/events/dlq.ts'),
  },
  {
    name: 'server',
    aliases: ['start', 'serve'],
    summary: 'run a Skiff server on this host',
    group: SERVER,
    load: () => import('./commands/server/server.ts'),
  },
  {
    name: 'doctor',
    aliases: ['checks', 'check', 'ready'],
    summary: 'check whether this host can run Skiff',
    group: SERVER,
    load: () => import('./commands/server/doctor.ts'),
  },
  {
    name: 'df',
    summary: 'show what the stores use of their budgets',
    group: SERVER,
    load: () => import('./commands/server/df.ts'),
  },
  {
    name: 'swarm',
    aliases: ['cluster'],
    summary: 'make, join and leave a swarm of hosts',
    group: SWARM,
    load: () => import('./commands/swarm/swarm.ts'),
  },
  {
    name: 'node',
    aliases: ['nodes'],
    summary: 'list, change and drain the hosts that run functions',
    group: SWARM,
    load: () => import('./commands/swarm/node.ts'),
  },
  {
    name: 'service',
    aliases: ['services'],
    summary: 'keep replicas of a function running across hosts',
    group: SWARM,
    load: () => import('./commands/swarm/service.ts'),
  },
  {
    name: 'volume',
    aliases: ['volumes'],
    summary: 'list and remove what services keep on disk',
    group: SWARM,
    load: () => import('./commands/swarm/volume.ts'),
  },
  {
    name: 'explain',
    aliases: ['why'],
    summary: 'say why a function or an invocation is cold, waiting, refused or where it is',
    group: SWARM,
    load: () => import('./commands/swarm/explain.ts'),
  },
  {
    name: 'login',
    aliases: ['auth'],
    summary: 'save a server and its token',
    group: ACCESS,
    load: () => import('./commands/access/login.ts'),
  },
  {
    name: 'logout',
    summary: 'forget a login to a registry of images',
    group: ACCESS,
    load: () => import('./commands/access/logout.ts'),
  },
  {
    name: 'registry',
    aliases: ['registries'],
    summary: 'log the server in to registries of images',
    group: ACCESS,
    load: () => import('./commands/access/registry.ts'),
  },
  {
    name: 'whoami',
    summary: 'show the server and the token that are used',
    group: ACCESS,
    load: () => import('./commands/access/whoami.ts'),
  },
  {
    name: 'context',
    aliases: ['contexts'],
    summary: 'choose between several servers',
    group: ACCESS,
    load: () => import('./commands/access/context.ts'),
  },
  {
    name: 'token',
    aliases: ['tokens'],
    summary: 'create, list and revoke tokens',
    group: ACCESS,
    load: () => import('./commands/access/token.ts'),
  },
  {
    name: 'secret',
    aliases: ['secrets'],
    summary: 'set, list and remove secrets of functions',
    group: ACCESS,
    load: () => import('./commands/access/secret.ts'),
  },
  {
    name: 'completion',
    aliases: ['completions'],
    summary: 'print the completion script of a shell',
    group: TOOL,
    load: () => import('./commands/tool/completion.ts'),
  },
  {
    name: 'version',
    summary: 'print the version',
    group: TOOL,
    load: () => import('./commands/tool/version.ts'),
  },
];

export function findCommand(name: string): CommandEntry | undefined {
  return COMMANDS.find((entry) => entry.name === name || entry.aliases?.includes(name));
}
