/**
 * What `npm start` shows of a fresh server: the example is deployed through the ordinary command line, called
 * twice over HTTP, and the way to do the same is printed. Deliberately absent: any short cut into the platform.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { commonSettings } from '../lib/config.ts';
import { gatewayUrl, type HostConfig } from './config.ts';
import type { DataPaths } from './data-folder.ts';
import { roleEnv } from './roles.ts';
import type { Terminal } from './terminal.ts';

export interface DemoOptions {
  readonly config: HostConfig;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly rootDir: string;
  readonly paths: DataPaths;
  readonly terminal: Terminal;
}

/** Where the command line looks for the server and its token unless it is told. */
const DATA_DIR_DEFAULT = commonSettings.SKIFF_DATA_DIR.parse(undefined);
const EXAMPLE = 'infra/deploy/examples/hello.ts';
/** The first deploy waits for the base image, which is fetched and packed once. */
const DEPLOY_MS_MAX = 600_000;

interface Deployed {
  readonly url: string;
}

const run = promisify(execFile);

export async function runDemo(options: DemoOptions): Promise<void> {
  const { terminal, paths } = options;
  terminal.note(`deploying ${EXAMPLE}`);
  const began = performance.now();
  const { url } = await deployExample(options);
  const deployMs = performance.now() - began;
  const target = `${url}?name=Skiff`;
  const first = await call(target);
  const second = await call(target);
  const isDefault = paths.root === DATA_DIR_DEFAULT;
  terminal.print(
    [
      '',
      `  deployed   ${EXAMPLE} in ${formatMs(deployMs)}`,
      `  url        ${url}`,
      `  try        curl '${target}'`,
      `  answer     ${second.text.trim()}`,
      `  calls      first ${formatMs(first.ms)}, second ${formatMs(second.ms)}`,
      `  deploy     ${isDefault ? '' : `SKIFF_DATA_DIR=${paths.root} `}npx skiff deploy <file or folder>`,
      `  token      ${paths.adminToken}`,
      `  data       ${paths.root}   (logs in ${paths.log})`,
      '',
    ].join('\n'),
  );
}

async function deployExample({ config, paths, env, rootDir }: DemoOptions): Promise<Deployed> {
  const cli = join(rootDir, 'sdk/cli/main.ts');
  const childEnv = {
    ...roleEnv(config, paths, env, rootDir),
    SKIFF_URL: gatewayUrl(config),
    SKIFF_TOKEN: undefined,
  };
  try {
    const { stdout } = await run(process.execPath, [cli, 'deploy', EXAMPLE, '--name', 'hello', '--json'], {
      cwd: rootDir,
      env: childEnv,
      timeout: DEPLOY_MS_MAX,
    });
    return JSON.parse(stdout) as Deployed;
  } catch (error) {
    const { stderr, stdout } = error as { stderr?: string; stdout?: string };
    throw new SkiffError(
      'BUILD_FAILED',
      `deploying ${EXAMPLE} failed: ${stderr || stdout || String(error)}`,
      { cause: error },
    );
  }
}

async function call(url: string): Promise<{ text: string; ms: number }> {
  const began = performance.now();
  const response = await fetch(url, { signal: AbortSignal.timeout(60_000) });
  const text = await response.text();
  const ms = performance.now() - began;
  if (!response.ok) throw new SkiffError('HANDLER_ERROR', `GET ${url} answered ${response.status}: ${text}`);
  return { text, ms };
}

function formatMs(ms: number): string {
  return ms < 10
    ? `${ms.toFixed(1)} ms`
    : ms < 10_000
      ? `${Math.round(ms)} ms`
      : `${(ms / 1000).toFixed(1)} s`;
}
