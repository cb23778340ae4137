/**
 * Publishing and following changes of the catalog, so that gateways may cache what they read.
 * Invariant: after a lost connection the follower is told to drop everything, as messages may have been missed.
 */
import type { Redis } from 'ioredis';
import { z } from 'zod';
import { durable } from '../contract/keys.ts';

const Change = z.object({
  kind: z.enum(['function', 'alias', 'tokens', 'secret', 'cancel', 'restart', 'swarm', 'node', 'service']),
  name: z.string(),
});
export type Change = z.output<typeof Change>;

export async function publishChange(redis: Redis, change: Change): Promise<void> {
  await redis.publish(durable.changes, JSON.stringify(change));
}

/**
 * Calls `onChange` for every change, and `onGap` whenever changes may have been missed: at the start and after each
 * reconnect. `redis` must be a connection of its own (`openBlockingRedis`), as a subscriber can do nothing else;
 * the returned function closes it. Resolves when the first subscription stands.
 */
export async function subscribeChanges(
  redis: Redis,
  onChange: (change: Change) => void,
  onGap: () => void = () => {},
): Promise<() => void> {
  redis.on('message', (channel: string, message: string) => {
    if (channel !== durable.changes) return;
    const change = tryParseChange(message);
    if (change) onChange(change);
    else onGap();
  });
  // ioredis says `ready` before it has subscribed again; a change in between would be lost, so the gap is reported
  // after our own subscription is confirmed. A connection lost meanwhile becomes ready again.
  const subscribe = () => redis.subscribe(durable.changes).then(onGap);
  await subscribe();
  redis.on('ready', () => void subscribe().catch(() => {}));
  return () => redis.disconnect();
}

/** A message of a newer version is not an error, but whoever caches must assume the worst. */
function tryParseChange(message: string): Change | undefined {
  try {
    return Change.safeParse(JSON.parse(message)).data;
  } catch {
    return undefined;
  }
}
