/**
 * Other people's registries: what a reference names, and how this server is logged in there.
 * Invariant: a password goes to the one host it is for, encrypted unless that host is this machine.
 */
import { rootCertificates } from 'node:tls';
import { z } from 'zod';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { namespaceOf } from '../../sdk/protocol/reach/namespaces.ts';
import { clip, isDigest, parseRepository, parseTagOrDigest } from './digest.ts';
import { openRegistry, type Registry } from './registry.ts';

export interface ExternalReference {
  /** `host[:port]`; absent for the platform's own registry. */
  readonly host: string | undefined;
  readonly repository: string;
  readonly tagOrDigest: string;
}

/** `host[:port]`. */
export const REGISTRY_HOST = /^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::\d{1,5})?$/i;
const LOOPBACK = /^(?:localhost|127\.\d+\.\d+\.\d+)(?::\d+)?$/;

/** `[host[:port]/]repository[:tag][@digest]`; a host has a dot or a port, or is localhost. @throws SkiffError INVALID_SOURCE */
export function parseExternalReference(text: string): ExternalReference {
  try {
    const at = text.indexOf('@');
    const digest = at < 0 ? undefined : text.slice(at + 1);
    const named = at < 0 ? text : text.slice(0, at);
    const slash = named.indexOf('/');
    const first = slash < 0 ? '' : named.slice(0, slash);
    const host = /[.:]/.test(first) || first === 'localhost' ? first : undefined;
    if (host !== undefined && !REGISTRY_HOST.test(host))
      throw new SkiffError('INVALID_NAME', `"${clip(host)}" is no host`);
    const path = host === undefined ? named : named.slice(slash + 1);
    const colon = path.lastIndexOf(':');
    const repository = parseRepository(colon < 0 ? path : path.slice(0, colon));
    const tag = parseTagOrDigest(colon < 0 ? 'latest' : path.slice(colon + 1));
    if (digest !== undefined && !isDigest(digest))
      throw new SkiffError('INVALID_NAME', 'its digest is not a sha256 digest');
    return { host, repository, tagOrDigest: digest ?? tag };
  } catch (cause) {
    const why = cause instanceof SkiffError ? `: ${cause.message}` : '';
    throw new SkiffError('INVALID_SOURCE', `"${clip(text)}" is not an image reference${why}`, { cause });
  }
}

/** As in a Docker or Podman `config.json`. */
const Logins = z.object({
  auths: z
    .record(
      z.string(),
      z.object({
        auth: z.string().optional(),
        username: z.string().optional(),
        password: z.string().optional(),
      }),
    )
    .default({}),
});
export type RegistryLogins = z.output<typeof Logins>['auths'];

/** @throws SkiffError INVALID_CONFIG */
export function parseLogins(text: string): RegistryLogins {
  try {
    return Logins.parse(JSON.parse(text)).auths;
  } catch (cause) {
    throw new SkiffError(
      'INVALID_CONFIG',
      'SKIFF_REGISTRY_LOGINS is not a Docker config.json with "auths" in it',
      { cause },
    );
  }
}

export interface Login {
  readonly user: string;
  readonly password: string;
}

export interface ExternalRegistriesOptions {
  /** Of this server's settings. */
  readonly logins: RegistryLogins;
  /** What `skiff registry login` left for the host; it goes before the settings. */
  readonly findLogin: (host: string) => Promise<Login | undefined>;
  /** Certificates (PEM) that are trusted beside the system's. */
  readonly certificates?: string | undefined;
}

export interface ExternalRegistries {
  /**
   * A client of the host for a build of this function. Logged in if there is a login for the host; but logins are the
   * operator's, so functions of a namespace get what everybody may pull. Close it after use.
   */
  open(host: string, functionName: string): Promise<Registry>;
  /** @throws SkiffError INVALID_CONFIG when the registry does not take this login, UNAVAILABLE when it is away */
  check(host: string, login: Login): Promise<void>;
}

export function createExternalRegistries(options: ExternalRegistriesOptions): ExternalRegistries {
  const ca = options.certificates === undefined ? undefined : [...rootCertificates, options.certificates];
  // Plain text only on this machine, and only where no certificate was set up.
  const urlOf = (host: string): string =>
    `${LOOPBACK.test(host) && ca === undefined ? 'http' : 'https'}://${host}`;
  return {
    async open(host, functionName) {
      const isOperators = namespaceOf(functionName) === undefined;
      const login = isOperators
        ? ((await options.findLogin(host)) ?? findConfigured(options.logins, host))
        : undefined;
      return openRegistry({ url: urlOf(host), ...login, tls: ca && { ca } });
    },
    async check(host, login) {
      const registry = openRegistry({ url: urlOf(host), ...login, tls: ca && { ca } });
      try {
        await registry.ping();
      } catch (error) {
        if (!(error instanceof SkiffError) || error.details?.['reason'] !== 'access_refused') throw error;
        throw new SkiffError(
          'INVALID_CONFIG',
          `registry ${host} does not take the login of user "${login.user}"; nothing was saved`,
          { cause: error },
        );
      } finally {
        await registry.close();
      }
    },
  };
}

function findConfigured(logins: RegistryLogins, host: string): Login | undefined {
  const found = logins[host] ?? logins[`https://${host}`] ?? logins[`http://${host}`];
  if (!found) return undefined;
  const pair = found.auth === undefined ? '' : Buffer.from(found.auth, 'base64').toString('utf8');
  const colon = pair.indexOf(':');
  return { user: found.username ?? pair.slice(0, colon), password: found.password ?? pair.slice(colon + 1) };
}
