/**
 * What the leading manager looks after beside services: that each member has its user in both stores and nobody else
 * has. A Redis that was restarted without its file of users, or a replica that took over (users are not replicated),
 * gets them again within seconds; a node that was removed while a store was away loses its user then.
 */
import type { Redis } from 'ioredis';
import { grantAccess, listUsers, redisUser, revokeAccess, type StoreKind } from '../../infra/swarm/access.ts';
import type { Members } from '../../infra/swarm/members.ts';
import type { Member } from '../../sdk/protocol/swarm/resources.ts';

const EVERY_MS = 5_000;
const NODE_USER = /^node-[a-z0-9-]{1,40}$/;

export class Upkeep {
  readonly #members: Members;
  readonly #stores: readonly (readonly [StoreKind, Redis])[];
  #lastAt = Number.NEGATIVE_INFINITY;

  constructor(members: Members, durable: Redis, fast: Redis) {
    this.#members = members;
    this.#stores = [
      ['durable', durable],
      ['fast', fast],
    ];
  }

  async run(): Promise<void> {
    if (performance.now() - this.#lastAt < EVERY_MS) return;
    this.#lastAt = performance.now();
    if (!(await this.#members.getSwarm())) return;
    const members = await this.#members.list();
    for (const [store, redis] of this.#stores) await restoreUsers(store, redis, members);
  }
}

async function restoreUsers(store: StoreKind, redis: Redis, members: readonly Member[]): Promise<void> {
  const users = new Set(await listUsers(redis));
  for (const { id, role, redisPasswordHash } of members) {
    if (redisPasswordHash === undefined || users.delete(redisUser(id))) continue;
    await grantAccess(redis, store, { id, role, passwordHash: redisPasswordHash });
  }
  for (const user of users) if (NODE_USER.test(user)) await revokeAccess(redis, user);
}
