/**
 * Which server a command talks to, and with which token.
 * Invariant: a token goes only to the server it belongs to. A context's token is used with that context's URL, and
 * the admin token in the data folder only with a loopback URL; otherwise `-g https://elsewhere` would give it away.
 */
import { readFileSync } from 'node:fs';
import { type Client, createClient } from '../../client/index.ts';
import { CliFailure } from '../failure.ts';
import type { Session } from '../session.ts';
import { findContext, parseServerUrl, readContexts } from './contexts.ts';
import { httpFetch, type HttpResponse } from './http-fetch.ts';
import { isLoopback, tryReadAdminToken, tryReadLocalUrl } from './local-server.ts';

export type CliClient = Client<HttpResponse>;

export interface ServerChoice {
  readonly url: string;
  readonly token: string | undefined;
  /** For people: where the URL came from. */
  readonly origin: string;
}

const PORT_DEFAULT = '8080';

export function chooseServer({ env, globals }: Pick<Session, 'env' | 'globals'>): ServerChoice {
  const given = globals.token ?? readSetting(env, 'SKIFF_TOKEN');
  const local = (url: string): string | undefined =>
    given ?? (isLoopback(url) ? tryReadAdminToken(env) : undefined);
  const plain = (url: string, origin: string): ServerChoice => ({ url, token: local(url), origin });

  if (globals.url !== undefined) return plain(parseServerUrl(globals.url), '--url');
  const named = globals.context;
  if (named === undefined && env['SKIFF_URL']) return plain(parseServerUrl(env['SKIFF_URL']), 'SKIFF_URL');
  const contexts = readContexts(env);
  const name = named ?? contexts.current;
  if (name !== undefined) {
    const context = findContext(contexts, name);
    return {
      url: context.url,
      token: given ?? context.token ?? local(context.url),
      origin: `context "${name}"`,
    };
  }
  const found = tryReadLocalUrl(env);
  if (found !== undefined) return plain(found, 'the server of this host');
  return plain(`http://127.0.0.1:${env['SKIFF_GATEWAY_PORT'] || PORT_DEFAULT}`, 'the default');
}

export function openClient(session: Session): CliClient {
  const { url, token } = chooseServer(session);
  return createClient({ url, token, fetch: httpFetch });
}

function readSetting(env: Session['env'], name: string): string | undefined {
  if (env[name]) return env[name];
  const file = env[`${name}_FILE`];
  if (!file) return undefined;
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    throw new CliFailure(`${name}_FILE: ${file} cannot be read: ${(error as Error).message}`, {
      cause: error,
    });
  }
}
