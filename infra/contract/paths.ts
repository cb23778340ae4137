/** Where things are below SKIFF_DATA_DIR. Folders are 0700 and owned by root. */
import { join } from 'node:path';

export function dataPaths(dataDir: string) {
  return {
    root: dataDir,
    adminToken: join(dataDir, 'admin.token'),
    secretKey: join(dataDir, 'secret.key'),
    /** Epoch of the durable store in which promises were made, see infra/events/durability.ts. */
    durableEpoch: join(dataDir, 'durable.epoch'),
    registryData: join(dataDir, 'registry'),
    redisDurable: join(dataDir, 'redis'),
    log: join(dataDir, 'log'),
    /** Short: unix socket paths end at 107 bytes. */
    run: join(dataDir, 'run'),
    redisDurableSocket: join(dataDir, 'run', 'redis.sock'),
    redisFastSocket: join(dataDir, 'run', 'fast.sock'),
    /** JSON ServerState: what `skiff server` runs, for the CLI and for scripts. */
    serverState: join(dataDir, 'run', 'server.json'),
    /** Certificate, key and credentials of this host as a member of a swarm; absent otherwise. */
    swarm: join(dataDir, 'swarm'),
    builder: join(dataDir, 'builder'),
    runner: join(dataDir, 'runner'),
    /** Runner's content-addressed store of unpacked layers and root filesystems. */
    store: join(dataDir, 'runner', 'store'),
    sandboxes: join(dataDir, 'runner', 'sandboxes'),
    /** Volumes of services: an image of a file system each. They are nobody's to remove but their owner's. */
    volumes: join(dataDir, 'runner', 'volumes'),
  } as const;
}

export interface ServerState {
  readonly pid: number;
  readonly url: string;
  readonly version: string;
  readonly startedMs: number;
  readonly registryUrl: string;
  readonly processes: Readonly<Record<string, number>>;
}
