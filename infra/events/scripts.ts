/**
 * The Lua scripts of ./scripts as commands. Each is loaded with the names of all keys (from infra/contract/keys.ts) and
 * the constants in front, then queue.lua, then itself. A script's contract is its header.
 */
import { readFileSync } from 'node:fs';
import type { Redis } from 'ioredis';
import { events } from '../contract/keys.ts';
import {
  DEAD_KEPT_MS,
  EVENT_AGE_MS_MAX,
  EVENT_DELAY_MS_MAX,
  EVENT_LOST_DELAY_MS,
  EVENT_LOST_MAX,
  EVENT_RUNNERS_DIED_MAX,
  IDEMPOTENCY_KEPT_MS,
  RECORD_KEPT_MS,
  STEPS_BYTES_MAX,
  STEPS_MAX,
} from '../../sdk/protocol/limits.ts';
import { JOB_IDS_MAX, SHARDS } from './shards.ts';

const KEY_COUNTS = {
  accept: 1,
  begin: 0,
  cancel: 0,
  expire: 0,
  finish: 0,
  'idem-begin': 0,
  'idem-end': 0,
  lead: 0,
  'outbox-settle': 0,
  'outbox-take': 0,
  promote: 0,
  'put-schedule': 0,
  purge: 0,
  reap: 0,
  redrive: 0,
  renew: 0,
  signal: 0,
  'step-load': 0,
  'step-put': 0,
  sweep: 0,
  tick: 1,
  'tick-pending': 1,
} as const;

export type ScriptName = keyof typeof KEY_COUNTS;
type Argument = string | number | Buffer;
type Command = (...args: Argument[]) => Promise<unknown>;

const CONSTANTS = {
  SHARDS,
  CHUNK: JOB_IDS_MAX,
  KEPT_MS: RECORD_KEPT_MS,
  DEAD_KEPT_MS,
  IDEMPOTENCY_MS: IDEMPOTENCY_KEPT_MS,
  LOST_MAX: EVENT_LOST_MAX,
  LOST_DELAY_MS: EVENT_LOST_DELAY_MS,
  DIED_MAX: EVENT_RUNNERS_DIED_MAX,
  STEPS_MAX,
  STEPS_BYTES_MAX,
  GROUP_MS: EVENT_AGE_MS_MAX + EVENT_DELAY_MS_MAX,
};

let prelude: string | undefined;

function readScript(name: string): string {
  return readFileSync(new URL(`./scripts/${name}.lua`, import.meta.url), 'utf8');
}

function createPrelude(): string {
  const names = Object.entries(events).map(
    ([name, key]) => `${name} = '${typeof key === 'function' ? key('') : key}'`,
  );
  const constants = Object.entries(CONSTANTS).map(([name, value]) => `local ${name} = ${value}`);
  return `local N = { ${names.join(', ')} }\n${constants.join('\n')}\n${readScript('queue')}\n`;
}

/** Runs a script on this connection. Replies come as Buffers: bodies are bytes. */
export type RunScript = (name: ScriptName, args: readonly Argument[]) => Promise<unknown>;

/** What Redis is given for a script. */
export function scriptText(name: ScriptName): string {
  prelude ??= createPrelude();
  return `${prelude}${readScript(name)}`;
}

export function defineEventScripts(redis: Redis): RunScript {
  for (const [name, numberOfKeys] of Object.entries(KEY_COUNTS) as [ScriptName, number][]) {
    redis.defineCommand(`events-${name}`, { numberOfKeys, lua: scriptText(name) });
  }
  const commands = redis as unknown as Record<string, Command>;
  return (name, args) => (commands[`events-${name}Buffer`] as Command).apply(redis, [...args]);
}
