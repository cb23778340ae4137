/**
 * One running server for the end-to-end tests that only need one: started before them, stopped after them
 * (test/helpers/shared-server-setup.ts). Tests share it, so each deploys functions of names of its own.
 */
import { readFile } from 'node:fs/promises';
import { inject } from 'vitest';
import { createClient, type Client, type LogLine, type LogOptions } from '../../sdk/client/index.ts';
import { findSource } from '../../sdk/cli/source/files.ts';
import { packSource } from '../../sdk/cli/source/pack.ts';
import { dataPaths, type ServerState } from '../../infra/contract/paths.ts';

declare module 'vitest' {
  interface ProvidedContext {
    server: { url: string; dataDir: string; token: string };
  }
}

export interface SharedServer {
  readonly url: string;
  readonly dataDir: string;
  readonly token: string;
  readonly client: Client;
  /** Deploys a file or folder and returns the function's URL. */
  deploy(name: string, path: string, config?: Record<string, unknown>): Promise<string>;
  logs(name: string, options: LogOptions): Promise<LogLine[]>;
  /** Sandboxes that serve the function now. */
  sandboxCount(name: string): Promise<number>;
  pidOf(role: string): Promise<number>;
}

export function useServer(): SharedServer {
  const { url, dataDir, token } = inject('server');
  const client = createClient({ url, token });
  return {
    url,
    dataDir,
    token,
    client,
    async deploy(name, path, config = {}) {
      const { files, entry } = findSource(path);
      const result = await client.deploy(name, { source: () => packSource(files), entry, config });
      return result.url;
    },
    async logs(name, options) {
      const lines: LogLine[] = [];
      for await (const line of client.logs(name, options)) lines.push(line);
      return lines;
    },
    async sandboxCount(name) {
      return (await client.get(name)).sandboxes ?? 0;
    },
    async pidOf(role) {
      const state = JSON.parse(await readFile(dataPaths(dataDir).serverState, 'utf8')) as ServerState;
      const pid = state.processes[role];
      if (pid === undefined) throw new Error(`no process "${role}" in ${JSON.stringify(state.processes)}`);
      return pid;
    },
  };
}
