/** The admin token's file. Invariant: it is never seen half written, and never replaced once it is there. */
import { randomUUID } from 'node:crypto';
import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type TokenStore, createTokenText } from '../infra/catalog/tokens.ts';
import { Secret } from '../infra/lib/config.ts';
import type { Log } from '../infra/lib/log.ts';
import { SkiffError } from '../sdk/protocol/errors.ts';

const LENGTH_MIN = 20;
const RETRY_MS = 500;

/** Reads the token, making one (0600) when there is no file. @throws SkiffError INVALID_CONFIG for an unusable one. */
export async function ensureAdminTokenFile(file: string): Promise<Secret> {
  const token = (await tryRead(file)) ?? (await create(file));
  if (/^[A-Za-z0-9._~+/=-]+$/.test(token) && token.length >= LENGTH_MIN) return new Secret(token);
  throw new SkiffError(
    'INVALID_CONFIG',
    `${file} does not hold a token: it must have at least ${LENGTH_MIN} letters, digits or "._~+/=-"; remove it to get a new one`,
  );
}

async function tryRead(file: string): Promise<string | undefined> {
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** `link` fails when the name exists, so of two processes that start together one wins and both read its token. */
async function create(file: string): Promise<string> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const draft = `${file}.${randomUUID()}`;
  const token = createTokenText();
  try {
    await writeFile(draft, `${token}\n`, { mode: 0o600, flag: 'wx' });
    await link(draft, file);
    return token;
  } catch (error) {
    const winner = await tryRead(file);
    if (winner === undefined) throw error;
    return winner;
  } finally {
    await rm(draft, { force: true });
  }
}

/** Tries until it is stored or `signal` fires: after an outage connections come back in any order. */
export async function storeAdminToken(
  tokens: Pick<TokenStore, 'ensureAdminToken'>,
  token: Secret,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      return await tokens.ensureAdminToken(token.reveal());
    } catch (error) {
      log.warn({ error }, 'the admin token could not be stored yet');
      await delay(RETRY_MS, undefined, { signal }).catch(() => {});
    }
  }
}
