/**
 * The Lua scripts of ./scripts as commands. Each is loaded with the names of all keys (from infra/contract/keys.ts) and
 * the constants in front, then gather.lua, queue.lua, acceptance.lua and events.lua, then itself, then the writes that were
 * gathered. A script's contract is its header. Its KEYS[1] is the epoch of the
 * cell that it works in, and the names are of that cell: no script touches keys of two.
 */
import { readFileSync } from 'node:fs';
import type { Redis } from 'ioredis';
import { ONE_CELL, type Cell } from '../contract/cells.ts';
import { absentKey } from '../contract/keys.ts';
import { isCluster } from '../lib/redis-cluster.ts';
import {
  DEAD_KEPT_MS,
  EVENT_AGE_MS_MAX,
  EVENT_DELAY_MS_MAX,
  EVENT_DIED_DELAY_MS,
  EVENT_LOST_DELAY_MS,
  EVENT_LOST_MAX,
  EVENT_RUNNERS_DIED_MAX,
  EVENTS_NAMESPACE_WINDOW_MAX,
  IDEMPOTENCY_KEPT_MS,
  RECORD_KEPT_MS,
  SIGNAL_KEPT_MS,
  SIGNALS_BYTES_KEPT,
  SIGNALS_KEPT,
  STEPS_BYTES_MAX,
  STEPS_MAX,
} from '../../sdk/protocol/limits.ts';
import { JOB_IDS_MAX, shardsOf } from './shards.ts';

const SCRIPTS = [
  'accept',
  'begin',
  'cancel',
  'end-member',
  'expire',
  'finish',
  'idem-begin',
  'idem-end',
  'lead',
  'outbox-settle',
  'outbox-take',
  'promote',
  'put-schedule',
  'purge',
  'reap',
  'redrive',
  'renew',
  'signal',
  'step-load',
  'step-put',
  'sweep',
  'tick',
  'tick-pending',
] as const;

export type ScriptName = (typeof SCRIPTS)[number];
type Argument = string | number | Buffer;
type Command = (...args: Argument[]) => Promise<unknown>;

const CONSTANTS = {
  CHUNK: JOB_IDS_MAX,
  KEPT_MS: RECORD_KEPT_MS,
  DEAD_KEPT_MS,
  IDEMPOTENCY_MS: IDEMPOTENCY_KEPT_MS,
  LOST_MAX: EVENT_LOST_MAX,
  LOST_DELAY_MS: EVENT_LOST_DELAY_MS,
  DIED_DELAY_MS: EVENT_DIED_DELAY_MS,
  DIED_MAX: EVENT_RUNNERS_DIED_MAX,
  NAMESPACE_WINDOW: EVENTS_NAMESPACE_WINDOW_MAX,
  STEPS_MAX,
  STEPS_BYTES_MAX,
  SIGNAL_KEPT_MS,
  SIGNALS_KEPT,
  SIGNALS_BYTES_KEPT,
  GROUP_MS: EVENT_AGE_MS_MAX + EVENT_DELAY_MS_MAX,
};

const preludes = new Map<string, string>();

function readScript(name: string): string {
  return readFileSync(new URL(`./scripts/${name}.lua`, import.meta.url), 'utf8');
}

/** `N.<name>` is a key of the cell, or a channel. In the text, as Redis makes it faster than it could be put together. */
function createPrelude(cell: Cell): string {
  const names = Object.entries(cell.events).map(
    ([name, key]) => `${name} = '${typeof key === 'function' ? key('') : key}'`,
  );
  const constants = Object.entries({ SHARDS: shardsOf(cell), ...CONSTANTS }).map(
    ([name, value]) => `local ${name} = ${value}`,
  );
  return `local N = { ${names.join(', ')} }
${constants.join('\n')}
${['gather', 'queue', 'acceptance', 'events'].map(readScript).join('\n')}
`;
}

/** Runs a script on this connection. Replies come as Buffers: bodies are bytes. */
export type RunScript = (name: ScriptName, args: readonly Argument[]) => Promise<unknown>;

/** What Redis is given for a script. */
export function scriptText(name: ScriptName, cell: Cell = ONE_CELL.first): string {
  const id = `${cell.tag} ${cell.of}`;
  const prelude = preludes.get(id) ?? createPrelude(cell);
  preludes.set(id, prelude);
  return `${prelude}local function script()\n${readScript(name)}\nend\nlocal reply = script()\nflush()\nreturn reply\n`;
}

export function defineEventScripts(redis: Redis, cell: Cell): RunScript {
  const { epoch } = cell.events;
  // One connection may lead to several cells.
  const commandOf = (name: ScriptName): string => `events-${cell.index}-${name}`;
  const keys = isCluster(redis) ? [epoch, absentKey(epoch)] : [epoch];
  for (const name of SCRIPTS) {
    const lua = scriptText(name, cell);
    redis.defineCommand(commandOf(name), { numberOfKeys: keys.length, lua });
  }
  const commands = redis as unknown as Record<string, Command>;
  return (name, args) => (commands[`${commandOf(name)}Buffer`] as Command).apply(redis, [...keys, ...args]);
}
