/**
 * Frees what no manifest of the embedded registry names any more. The registry's own collector must run while nobody
 * writes, so it runs before the registry starts. It marks first and removes afterwards: killed at any moment, it has
 * removed only what was not needed.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { REGISTRY_SWEEP_MS_MAX } from '../../sdk/protocol/limits.ts';
import { hostPaths, type DataPaths } from './data-folder.ts';

const run = promisify(execFile);
const OUTPUT_BYTES_MAX = 64 * 1024 ** 2;

/** The registry's settings file must be written. Returns why it failed, for the log; the server starts all the same. */
export async function sweepRegistry(
  paths: DataPaths,
  env: Readonly<Record<string, string | undefined>>,
): Promise<string | undefined> {
  if (!existsSync(join(paths.registryData, 'docker'))) return undefined;
  try {
    await run('docker-registry', ['garbage-collect', hostPaths(paths).registryConfig], {
      timeout: REGISTRY_SWEEP_MS_MAX,
      maxBuffer: OUTPUT_BYTES_MAX,
      env: { PATH: env['PATH'], LANG: 'C.UTF-8' },
    });
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
