/** The server itself: stores, tokens, secrets, health. */
import type { RegistryLogin, Scope, SecretRecord, TokenRecord, Usage } from '../protocol/api.ts';
import { ClientError, readFailure } from './error.ts';
import type { ClientResponse } from './fetch.ts';
import type { CallOptions } from './functions.ts';
import type { Transport } from './transport.ts';

/** Whether functions can be deployed and invoked now, and what stands in the way. */
export interface Readiness {
  readonly ready: boolean;
  readonly checks: Readonly<Record<string, { readonly ok: boolean; readonly reason?: string }>>;
}

/** The token itself is shown once, when it is made. */
export interface CreatedToken {
  readonly token: string;
  readonly record: TokenRecord;
}

export interface Platform {
  /** What every store uses of its budget. */
  df(options?: CallOptions): Promise<Usage[]>;
  tokens: {
    list(options?: CallOptions): Promise<TokenRecord[]>;
    create(
      request: {
        readonly name: string;
        readonly scopes: readonly Scope[];
        /** Good for these functions alone; for tokens to invoke and read. */
        readonly functions?: readonly string[] | undefined;
        /** Good for functions, secrets and schedules called `<namespace>.<name>` alone. */
        readonly namespace?: string | undefined;
        readonly expiresMs?: number | undefined;
      },
      options?: CallOptions,
    ): Promise<CreatedToken>;
    remove(id: string, options?: CallOptions): Promise<void>;
  };
  /** Of functions. No call returns a value. */
  secrets: {
    list(options?: CallOptions): Promise<SecretRecord[]>;
    /** Makes it or gives it a new value. */
    set(name: string, value: string, options?: CallOptions): Promise<SecretRecord>;
    remove(name: string, options?: CallOptions): Promise<void>;
    /** Encrypts all of them with a new key. */
    rotateKey(options?: CallOptions): Promise<number>;
  };
  /** Logins of the server to registries of images. */
  registries: {
    /** No call returns a password. */
    list(options?: CallOptions): Promise<RegistryLogin[]>;
    /** Kept when the registry (`host[:port]`) took it. */
    login(host: string, user: string, password: string, options?: CallOptions): Promise<RegistryLogin>;
    logout(host: string, options?: CallOptions): Promise<void>;
  };
  /** The token of this client: its name and scopes. */
  whoAmI(options?: CallOptions): Promise<TokenRecord>;
  /** The server's own description, OpenAPI 3.1. */
  openApi(options?: CallOptions): Promise<Readonly<Record<string, unknown>>>;
  /** Of the gateway that answers, in the Prometheus text format. */
  metrics(options?: CallOptions): Promise<string>;
  /** Whether the process that answers is alive, whatever it stands on. Throws ClientError when nobody answers. */
  alive(options?: CallOptions): Promise<boolean>;
  /** Throws ClientError when nobody answers. */
  health(options?: CallOptions): Promise<Readiness>;
}

const registryPath = (host: string): string => `/v1/registries/${encodeURIComponent(host)}`;
const secretPath = (name: string): string => `/v1/secrets/${encodeURIComponent(name)}`;

export function createPlatform(transport: Transport<ClientResponse>): Platform {
  return {
    df: ({ signal } = {}) =>
      transport
        .json<{ stores: Usage[] }>({ what: 'disk usage', path: '/v1/df', signal })
        .then((body) => body.stores),
    tokens: {
      list: ({ signal } = {}) =>
        transport
          .json<{ tokens: TokenRecord[] }>({ what: 'list tokens', path: '/v1/tokens', signal })
          .then((body) => body.tokens),
      create: (request, { signal } = {}) =>
        transport.json({
          what: `create token "${request.name}"`,
          method: 'POST',
          path: '/v1/tokens',
          headers: [['content-type', 'application/json']],
          body: JSON.stringify(request),
          signal,
        }),
      async remove(id, { signal } = {}) {
        const path = `/v1/tokens/${encodeURIComponent(id)}`;
        const response = await transport.send({ what: `remove token ${id}`, method: 'DELETE', path, signal });
        await response.text();
      },
    },
    secrets: {
      list: ({ signal } = {}) =>
        transport
          .json<{ secrets: SecretRecord[] }>({ what: 'list secrets', path: '/v1/secrets', signal })
          .then((body) => body.secrets),
      set: (name, value, { signal } = {}) =>
        transport.json({
          what: `set secret "${name}"`,
          method: 'PUT',
          path: secretPath(name),
          headers: [['content-type', 'application/json']],
          body: JSON.stringify({ value }),
          signal,
        }),
      async remove(name, { signal } = {}) {
        const request = { what: `remove secret "${name}"`, method: 'DELETE', path: secretPath(name), signal };
        await (await transport.send(request)).text();
      },
      rotateKey: ({ signal } = {}) =>
        transport
          .json<{ rotated: number }>({
            what: 'rotate the key of secrets',
            method: 'POST',
            path: '/v1/secret-key/rotation',
            signal,
          })
          .then((body) => body.rotated),
    },
    registries: createRegistries(transport),
    whoAmI: ({ signal } = {}) => transport.json({ what: 'who am I', path: '/v1/whoami', signal }),
    openApi: ({ signal } = {}) => transport.json({ what: 'description', path: '/openapi.json', signal }),
    async metrics({ signal } = {}) {
      return (await transport.send({ what: 'metrics', path: '/metrics', signal })).text();
    },
    alive: ({ signal } = {}) =>
      transport.json<{ ok: boolean }>({ what: 'alive', path: '/healthz', signal }).then(({ ok }) => ok),
    health: (options) => readHealth(transport, options),
  };
}

async function readHealth(
  transport: Transport<ClientResponse>,
  { signal }: CallOptions = {},
): Promise<Readiness> {
  const never = (): boolean => false;
  const response = await transport.fetch({ what: 'health', path: '/readyz', signal, mayRepeat: never });
  // 503 is an answer here, not a failure.
  if (response.status !== 200 && response.status !== 503) throw await readFailure(response, 'health');
  const text = await response.text();
  try {
    return JSON.parse(text) as Readiness;
  } catch (error) {
    const detail = `health: the answer of ${transport.url} is not JSON; is that a Skiff server?`;
    throw new ClientError({ code: 'BAD_RESPONSE', status: response.status, detail, cause: error });
  }
}

function createRegistries(transport: Transport<ClientResponse>): Platform['registries'] {
  return {
    list: ({ signal } = {}) =>
      transport
        .json<{ registries: RegistryLogin[] }>({ what: 'list registries', path: '/v1/registries', signal })
        .then((body) => body.registries),
    login: (host, user, password, { signal } = {}) =>
      transport.json({
        what: `log in to ${host}`,
        method: 'PUT',
        path: registryPath(host),
        headers: [['content-type', 'application/json']],
        body: JSON.stringify({ user, password }),
        signal,
      }),
    async logout(host, { signal } = {}) {
      const request = { what: `log out of ${host}`, method: 'DELETE', path: registryPath(host), signal };
      await (await transport.send(request)).text();
    },
  };
}
