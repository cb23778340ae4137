/**
 * What the leading manager looks after beside services: that each member has its user in both stores, with the rights of this
 * release, and nobody else has. Managers are upgraded first, so nodes have new rights before they need them. A Redis that was restarted without its file of users, or a replica that took over (users are not replicated),
 * gets them again within seconds; a node that was removed while a store was away loses its user then.
 */
import type { Redis } from 'ioredis';
import {
  grantAccess,
  listUsers,
  redisUser,
  revokeAccess,
  type SwarmStores,
} from '../../infra/swarm/access.ts';
import type { Members } from '../../infra/swarm/members.ts';
import type { Member } from '../../sdk/protocol/swarm/resources.ts';

const EVERY_MS = 5_000;
const NODE_USER = /^node-[a-z0-9-]{1,40}$/;

export class Upkeep {
  readonly #members: Members;
  readonly #stores: SwarmStores;
  #lastAt = Number.NEGATIVE_INFINITY;
  /** Members that this process has given the rights of its release. */
  readonly #granted = new Set<string>();

  constructor(members: Members, durable: Redis, fast: Redis) {
    this.#members = members;
    this.#stores = { durable, fast };
    // It may be another server than before, which has never heard of them.
    for (const redis of [durable, fast]) redis.on('ready', () => (this.#lastAt = Number.NEGATIVE_INFINITY));
  }

  async run(): Promise<void> {
    if (performance.now() - this.#lastAt < EVERY_MS) return;
    this.#lastAt = performance.now();
    if (!(await this.#members.getSwarm())) return;
    const members = await this.#members.list();
    await this.#restoreUsers(members);
  }

  async #restoreUsers(members: readonly Member[]): Promise<void> {
    const both = [this.#stores.durable, this.#stores.fast];
    const users = (await Promise.all(both.map((redis) => listUsers(redis)))).map((names) => new Set(names));
    for (const { id, role, redisPasswordHash } of members) {
      if (redisPasswordHash === undefined) continue;
      const isKnown = users.map((names) => names.delete(redisUser(id)));
      if (this.#granted.has(id) && !isKnown.includes(false)) continue;
      await grantAccess(this.#stores, { id, role, passwordHash: redisPasswordHash });
      this.#granted.add(id);
      // It may have been removed since the list was read; who removes one after this look takes its user away then.
      if (!(await this.#members.has(id))) await Promise.all(both.map((redis) => revokeAccess(redis, id)));
    }
    for (const [i, redis] of both.entries()) {
      for (const user of users[i] ?? []) {
        // One that has joined since is a member now; users are named for their nodes.
        if (NODE_USER.test(user) && !(await this.#members.has(user))) await revokeAccess(redis, user);
      }
    }
  }
}
