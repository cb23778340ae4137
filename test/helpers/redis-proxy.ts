/**
 * A relay in front of a Redis socket that a test can stop at an exact moment: before a command reaches Redis, after
 * Redis has done it and before its reply arrives, or altogether. Everything else passes.
 */
import { rm } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { once } from 'node:events';
import { createHash } from 'node:crypto';
import { scriptText, type ScriptName } from '../../infra/events/scripts.ts';

export interface Trap {
  /** Resolves when the command was seen. */
  readonly sprung: Promise<void>;
  /** Lets what was held go on. */
  release(): void;
}

export interface RedisProxy {
  /** `unix:/…` */
  readonly url: string;
  /** The next chunk with this script, that names `id` if one is given, does not reach Redis. */
  trapCommand(script: ScriptName | RegExp, id?: string): Trap;
  /** The next such chunk reaches Redis, and nothing that Redis says on that connection comes back. */
  trapReply(script: ScriptName | RegExp, id?: string): Trap;
  /** Nothing passes any more, in both directions, on any connection, new ones included. */
  cut(): void;
  /** Ends every connection, and forgets all traps. */
  mend(): void;
  close(): Promise<void>;
}

interface Rule {
  readonly matches: (chunk: string) => boolean;
  readonly holds: 'command' | 'reply';
  readonly spring: () => void;
  held: (() => void)[];
}

function createMatcher(script: ScriptName | RegExp): (chunk: string) => boolean {
  if (script instanceof RegExp) return (chunk) => script.test(chunk);
  const text = Buffer.from(scriptText(script));
  const digest = createHash('sha1').update(text).digest('hex');
  // The first call of a connection's life brings the text, whose end is the script's own. Chunks are read as latin1.
  const end = text.subarray(-200).toString('latin1');
  return (chunk) => chunk.includes(digest) || chunk.includes(end);
}

export async function startRedisProxy(target: string, socketPath: string): Promise<RedisProxy> {
  const rules = new Set<Rule>();
  const sockets = new Set<Socket>();
  let isCut = false;
  const server = createServer((client) => {
    const upstream = connect(target);
    let mutedBy: Rule | undefined;
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => {
        sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    client.on('data', (chunk) => {
      if (isCut) return;
      const text = chunk.toString('latin1');
      const rule = [...rules].find((each) => each.matches(text));
      if (!rule) return void upstream.write(chunk);
      rules.delete(rule);
      if (rule.holds === 'command') rule.held.push(() => upstream.write(chunk));
      else {
        mutedBy = rule;
        upstream.write(chunk);
      }
      rule.spring();
    });
    upstream.on('data', (chunk) => {
      if (isCut) return;
      if (mutedBy) mutedBy.held.push(() => client.write(chunk));
      else client.write(chunk);
    });
  });
  await rm(socketPath, { force: true });
  server.listen(socketPath);
  await once(server, 'listening');

  function trap(holds: Rule['holds'], script: ScriptName | RegExp, id = ''): Trap {
    const { promise, resolve } = Promise.withResolvers<void>();
    const isScript = createMatcher(script);
    const matches = (chunk: string) => isScript(chunk) && chunk.includes(id);
    const rule: Rule = { matches, holds, spring: resolve, held: [] };
    rules.add(rule);
    return {
      sprung: promise,
      release() {
        rules.delete(rule);
        for (const pass of rule.held.splice(0)) pass();
      },
    };
  }

  return {
    url: `unix:${socketPath}`,
    trapCommand: trap.bind(undefined, 'command'),
    trapReply: trap.bind(undefined, 'reply'),
    cut() {
      isCut = true;
    },
    mend() {
      isCut = false;
      rules.clear();
      // Half-sent commands are of no use to anybody.
      for (const socket of sockets) socket.destroy();
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
