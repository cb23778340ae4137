/**
 * What a server on this host leaves for its own users: its URL and the first token, in files that only root reads.
 * The two paths are restated from infra/contract/paths.ts, as sdk must not import infra.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

type Env = Readonly<Record<string, string | undefined>>;

export const dataDir = (env: Env): string => env['SKIFF_DATA_DIR'] || '/var/lib/skiff';
export const adminTokenPath = (env: Env): string => join(dataDir(env), 'admin.token');
const serverStatePath = (env: Env): string => join(dataDir(env), 'run', 'server.json');

function tryRead(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    // Absent: no server has run here. Unreadable: another user's. Both mean that there is nothing for us.
    return undefined;
  }
}

/** Where the server of this data folder listens, if one runs or ran. */
export function tryReadLocalUrl(env: Env): string | undefined {
  const text = tryRead(serverStatePath(env));
  if (text === undefined) return undefined;
  try {
    const { url } = JSON.parse(text) as { url?: unknown };
    return typeof url === 'string' ? url : undefined;
  } catch {
    return undefined;
  }
}

export function tryReadAdminToken(env: Env): string | undefined {
  return tryRead(adminTokenPath(env));
}

/** Only a server of this host may be shown this host's admin token. */
export function isLoopback(url: string): boolean {
  const { hostname } = new URL(url);
  return hostname === 'localhost' || hostname === '[::1]' || /^127(?:\.\d{1,3}){3}$/.test(hostname);
}
