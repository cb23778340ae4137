/**
 * The data folder: made once, private to root, and held by one server at a time. Owns the credentials that the
 * processes of one server share. Invariant: what is secret is 0600 in a 0700 folder and is made only when absent.
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { dataPaths } from '../contract/paths.ts';
import { REDIS_PASSWORD_FILE } from '../lib/redis.ts';
import { tryLock } from './process/lock.ts';

export type DataPaths = ReturnType<typeof dataPaths>;

export const hostPaths = (paths: DataPaths) =>
  ({
    registryPassword: join(paths.root, 'registry.password'),
    registryUsers: join(paths.run, 'registry.htpasswd'),
    registryConfig: join(paths.run, 'registry.yml'),
    redisConfig: join(paths.run, 'redis.conf'),
    fastConfig: join(paths.run, 'fast.conf'),
    redisPassword: join(paths.run, REDIS_PASSWORD_FILE),
    redisUsers: join(paths.redisDurable, 'users.acl'),
    fastUsers: join(paths.redisDurable, 'fast-users.acl'),
  }) as const;

/** Makes what is missing; folders that exist are made private again. */
export function createDataFolder(dataDir: string): DataPaths {
  const paths = dataPaths(dataDir);
  const folders = [
    paths.root,
    paths.registryData,
    paths.redisDurable,
    paths.log,
    paths.run,
    paths.builder,
    paths.runner,
  ];
  for (const folder of folders) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    chmodSync(folder, 0o700);
  }
  createSecretFile(paths.adminToken, () => `skiff_${randomBytes(32).toString('base64url')}`);
  createSecretFile(hostPaths(paths).registryPassword, () => randomBytes(24).toString('base64url'));
  createSecretFile(hostPaths(paths).redisPassword, () => randomBytes(24).toString('base64url'));
  return paths;
}

function createSecretFile(file: string, make: () => string): void {
  if (existsSync(file) && readFileSync(file, 'utf8').trim() !== '') return;
  writeFileSync(file, `${make()}\n`, { mode: 0o600 });
}

/**
 * Takes the part of the data folder that each of `roles` stands on, so that two servers cannot share it. Throws
 * CONFLICT and names the holder.
 */
export function lockDataFolder(paths: DataPaths, roles: readonly string[]): () => void {
  const releases: (() => void)[] = [];
  for (const role of roles) {
    const release = tryLock(join(paths.run, `${role}.lock`));
    if (!release) {
      for (const undo of releases) undo();
      throw new SkiffError(
        'CONFLICT',
        `another server${describeHolder(paths)} already uses ${paths.root} for its ${role}; ` +
          'stop it, or set SKIFF_DATA_DIR and SKIFF_GATEWAY_PORT to run a second one beside it',
      );
    }
    releases.push(release);
  }
  return () => {
    for (const release of releases) release();
  };
}

function describeHolder(paths: DataPaths): string {
  try {
    const state = JSON.parse(readFileSync(paths.serverState, 'utf8')) as { pid: number; url: string };
    return ` (pid ${state.pid}, ${state.url})`;
  } catch {
    return '';
  }
}
