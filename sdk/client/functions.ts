/** Functions, their deployments and aliases. A rollback or promotion is one compare-and-set of an alias. */
import type { Alias, Deployment, FunctionRecord } from '../protocol/api.ts';
import { ClientError } from './error.ts';
import type { ClientResponse } from './fetch.ts';
import type { Transport } from './transport.ts';

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
}

export type AliasTarget = Alias['targets'][number];

export interface Functions {
  list(options?: CallOptions): Promise<FunctionRecord[]>;
  get(name: string, options?: CallOptions): Promise<FunctionRecord>;
  /** Newest first. */
  deployments(name: string, options?: CallOptions): Promise<Deployment[]>;
  deployment(id: string, options?: CallOptions): Promise<Deployment>;
  remove(name: string, options?: CallOptions): Promise<void>;
  /** Its sandboxes end, each when what it does has ended; the calls that come start new ones. */
  restart(name: string, options?: CallOptions): Promise<void>;
  /** `version` is the `Alias.version` you saw; when it has changed since, the call fails with CONFLICT. */
  setAlias(
    name: string,
    alias: string,
    targets: readonly AliasTarget[],
    options?: CallOptions & { readonly version?: number | undefined },
  ): Promise<Alias>;
  /** Back to the deployment before the live one, or to `to`. During a canary: back to the older of the two. */
  rollback(name: string, options?: CallOptions & { readonly to?: string | undefined }): Promise<Alias>;
  /** Gives `to` (default: the newest deployment) all traffic, or `percent` of it. */
  promote(
    name: string,
    options?: CallOptions & { readonly to?: string | undefined; readonly percent?: number | undefined },
  ): Promise<Alias>;
}

export function createFunctions(transport: Transport<ClientResponse>): Functions {
  const path = (name: string): string => `/v1/functions/${encodeURIComponent(name)}`;

  const get: Functions['get'] = (name, { signal } = {}) =>
    transport.json({ what: `function ${name}`, path: path(name), signal });

  const setAlias: Functions['setAlias'] = (name, alias, targets, { signal, version } = {}) =>
    transport.json({
      what: `alias ${alias} of ${name}`,
      method: 'PUT',
      path: `${path(name)}/aliases/${encodeURIComponent(alias)}`,
      headers: [['content-type', 'application/json']],
      body: JSON.stringify({ targets, version }),
      signal,
    });

  /** The live alias, and ids newest first, as the server lists them: ids of one millisecond do not sort by time. */
  async function getLive(name: string, signal: AbortSignal | undefined) {
    const record = await get(name, { signal });
    if (record.live === undefined)
      throw cannot('NOT_FOUND', `function "${name}" has no live deployment; deploy it first`);
    return { live: record.live, ids: record.deployments };
  }

  return {
    list: ({ signal } = {}) =>
      transport
        .json<{ functions: FunctionRecord[] }>({ what: 'list functions', path: '/v1/functions', signal })
        .then((body) => body.functions),
    get,
    deployments: (name, { signal } = {}) =>
      transport
        .json<{ deployments: Deployment[] }>({
          what: `deployments of ${name}`,
          path: `${path(name)}/deployments`,
          signal,
        })
        .then((body) => body.deployments),
    deployment: (id, { signal } = {}) =>
      transport.json({ what: `deployment ${id}`, path: `/v1/deployments/${encodeURIComponent(id)}`, signal }),
    async remove(name, { signal } = {}) {
      const response = await transport.send({
        what: `remove ${name}`,
        method: 'DELETE',
        path: path(name),
        signal,
      });
      await response.text();
    },
    async restart(name, { signal } = {}) {
      const request = { what: `restart ${name}`, method: 'POST', path: `${path(name)}/restart`, signal };
      await (await transport.send(request)).text();
    },
    setAlias,

    async rollback(name, { to, signal } = {}) {
      const { live, ids } = await getLive(name, signal);
      const target = to ?? findPrevious(name, live, ids);
      return setAlias(name, live.name, [{ deployment: target, weight: 100 }], {
        signal,
        version: live.version,
      });
    },

    async promote(name, { to, percent = 100, signal } = {}) {
      const { live, ids } = await getLive(name, signal);
      const target = to ?? ids[0] ?? (live.targets[0] as AliasTarget).deployment;
      return setAlias(name, live.name, planShift(live, target, percent), { signal, version: live.version });
    },
  };
}

function findPrevious(name: string, live: Alias, idsNewestFirst: readonly string[]): string {
  const places = live.targets.map((target) => idsNewestFirst.indexOf(target.deployment));
  const oldest = Math.max(...places);
  // Two targets are a canary: the older one is what it is rolled back to.
  const previous = idsNewestFirst[places.length > 1 ? oldest : oldest + 1];
  if (previous !== undefined) return previous;
  const current = live.targets[0]?.deployment;
  throw cannot('NOT_FOUND', `function "${name}" has no deployment before ${current}; name one to go to`);
}

/** The part that `target` does not get stays with the heaviest of the others. */
function planShift(live: Alias, target: string, percent: number): AliasTarget[] {
  if (!Number.isInteger(percent) || percent < 1 || percent > 100) {
    throw cannot('BAD_REQUEST', `${percent} is not a share; give whole percents from 1 to 100`);
  }
  const others = live.targets
    .filter((other) => other.deployment !== target)
    .toSorted((a, b) => b.weight - a.weight);
  const rest = others[0];
  if (percent === 100) return [{ deployment: target, weight: 100 }];
  if (rest === undefined) {
    throw cannot(
      'CONFLICT',
      `${target} has all traffic already; there is no other deployment to share it with`,
    );
  }
  return [
    { deployment: target, weight: percent },
    { deployment: rest.deployment, weight: 100 - percent },
  ];
}

/** Refused before anything was sent: status 0. */
function cannot(code: 'NOT_FOUND' | 'BAD_REQUEST' | 'CONFLICT', detail: string): ClientError {
  return new ClientError({ code, status: 0, detail, fault: 'caller' });
}
