/** `skiff server cells`: opens both stores (the embedded one is started for it alone), moves, and says what to do next. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { openRedis, redisUrls } from '../../lib/redis.ts';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { redisSpecs } from '../backbone.ts';
import type { HostConfig } from '../config.ts';
import { createDataFolder, lockDataFolder } from '../data-folder.ts';
import { LogFile } from '../process/log-file.ts';
import { ManagedProcess, type ProcessObserver } from '../process/managed-process.ts';
import { endRecordedProcess } from '../process/process-record.ts';
import type { Terminal } from '../terminal.ts';
import { abortMove, MOVER, moveStore } from './move.ts';

export interface CellsOptions {
  readonly config: HostConfig;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly terminal: Terminal;
  /** URL as in SKIFF_REDIS_URL. */
  readonly to: string | undefined;
  readonly cells: string | undefined;
  readonly isAborted: boolean;
}

export async function runCells({
  config,
  env,
  terminal,
  to,
  cells,
  isAborted,
}: CellsOptions): Promise<number> {
  if (to === undefined || cells === undefined || !/^\d{1,3}$/.test(cells))
    throw new SkiffError(
      'INVALID_CONFIG',
      'say where to, and to how many cells: skiff server cells --to redis+cluster://a:6379,b:6379,c:6379 --cells 16',
    );
  const count = Number(cells);
  const paths = createDataFolder(config.SKIFF_DATA_DIR);
  const unlock = lockDataFolder(paths, ['backbone', 'gateway', 'events', 'builder', 'runner']);
  const opened: Redis[] = [];
  let stop = async (): Promise<void> => {};
  try {
    stop = await startEmbedded(config, env, paths);
    const source = await open(redisUrls(config).durable, opened);
    const target = await open(to, opened);
    if (isAborted) {
      await abortMove({ source, target, cells: count });
      terminal.print('the move was given up; the store is used as before');
      return 0;
    }
    const moved = await moveStore({ source, target, cells: count, note: (text) => terminal.note(text) });
    if (moved !== 'moved before')
      terminal.note(`${moved.keys} keys, ${moved.invocations} of them invocations, are in ${count} cells`);
    terminal.print(`start every server with SKIFF_REDIS_URL='${to}' SKIFF_CELLS=${count}`);
    return 0;
  } finally {
    for (const redis of opened) redis.disconnect();
    await stop();
    unlock();
  }
}

async function open(url: string, opened: Redis[]): Promise<Redis> {
  const redis = openRedis(url, {
    connectionName: MOVER,
    enableAutoPipelining: true,
    commandTimeout: 60_000,
    retryStrategy: () => null,
  });
  opened.push(redis);
  redis.on('error', () => {});
  try {
    await redis.connect();
    await redis.ping();
    return redis;
  } catch (error) {
    const place = url.replace(/\/\/[^@/]*@/, '//');
    throw new SkiffError('UNAVAILABLE', `${place} cannot be reached: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

const START_MS_MAX = 60_000;
const SILENT: ProcessObserver = { onLine() {}, onDeath() {}, onStart() {} };

/** Returns how to stop it. Nothing is started when the store is elsewhere. */
async function startEmbedded(
  config: HostConfig,
  env: CellsOptions['env'],
  paths: ReturnType<typeof createDataFolder>,
): Promise<() => Promise<void>> {
  const spec = redisSpecs(config, paths, env).find(({ name }) => name === 'redis');
  if (!spec) return async () => {};
  // As the supervisor does: what a killed server left running is ended first, and its next start would end ours.
  const recordFile = join(paths.run, `${spec.name}.process.json`);
  await endRecordedProcess(recordFile, spec.stopMsMax);
  const log = new LogFile(join(paths.log, `${spec.name}.log`));
  const redis = new ManagedProcess(spec, { log, recordFile, observer: SILENT });
  const stop = async (): Promise<void> => {
    await redis.stop();
    log.close();
  };
  redis.start();
  const deadline = performance.now() + START_MS_MAX;
  try {
    while (!(await redis.isReady())) {
      redis.assertViable();
      if (performance.now() > deadline) throw redis.createNotReadyError(START_MS_MAX);
      await sleep(50);
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return stop;
}
