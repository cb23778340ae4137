/** A swarm, its nodes and its services. */
import type { NodeRecord } from '../../protocol/api.ts';
import type {
  Explanation,
  JoinTokenView,
  NodeRole,
  NodeTask,
  NodeUpdate,
  ServiceCreate,
  ServiceState,
  ServiceUpdate,
  SwarmInfo,
  SwarmInitRequest,
  VolumeState,
} from '../../protocol/swarm/resources.ts';
import type { ClientResponse } from '../fetch.ts';
import type { CallOptions } from '../functions.ts';
import type { Transport } from '../transport.ts';

export interface Swarm {
  swarm: {
    get(options?: CallOptions): Promise<SwarmInfo>;
    init(request?: SwarmInitRequest, options?: CallOptions): Promise<SwarmInfo>;
    /** Ends the swarm that stands on this server: no other node belongs to it any more. */
    end(options?: CallOptions): Promise<void>;
    joinToken(role: NodeRole, options?: CallOptions): Promise<JoinTokenView>;
    /** The old token lets nobody in any more. */
    rotateJoinToken(role: NodeRole, options?: CallOptions): Promise<JoinTokenView>;
  };
  /** Those that are up, and members of the swarm that are down. */
  nodes(options?: CallOptions): Promise<NodeRecord[]>;
  node: {
    /** `node` is an id or a host name. */
    update(node: string, update: NodeUpdate, options?: CallOptions): Promise<NodeRecord>;
    tasks(node: string, options?: CallOptions): Promise<NodeTask[]>;
    remove(node: string, options?: CallOptions & { readonly force?: boolean | undefined }): Promise<void>;
  };
  services: {
    list(options?: CallOptions): Promise<ServiceState[]>;
    get(name: string, options?: CallOptions): Promise<ServiceState>;
    create(request: ServiceCreate, options?: CallOptions): Promise<ServiceState>;
    update(name: string, update: ServiceUpdate, options?: CallOptions): Promise<ServiceState>;
    rollback(name: string, options?: CallOptions): Promise<ServiceState>;
    remove(name: string, options?: CallOptions): Promise<void>;
  };
  /** A volume begins with the service that first uses it. */
  volumes: {
    list(options?: CallOptions): Promise<VolumeState[]>;
    get(name: string, options?: CallOptions): Promise<VolumeState>;
    /** With all that is in it. `force`: also when its node is down, and is to be forgotten with it. */
    remove(name: string, options?: CallOptions & { readonly force?: boolean | undefined }): Promise<void>;
  };
  /** Why a function's next call would be, or a call was, cold, waiting, refused, or where it is. */
  explain(subject: string, options?: CallOptions): Promise<Explanation>;
}

const JSON_HEADERS: readonly (readonly [string, string])[] = [['content-type', 'application/json']];

export function createSwarm(transport: Transport<ClientResponse>): Swarm {
  const path = (...parts: readonly string[]): string => `/v1/${parts.map(encodeURIComponent).join('/')}`;
  const read = <T>(what: string, at: string, { signal }: CallOptions = {}): Promise<T> =>
    transport.json({ what, path: at, signal });
  const write = <T>(what: string, at: string, body: unknown, { signal }: CallOptions = {}): Promise<T> =>
    transport.json({
      what,
      method: 'POST',
      path: at,
      headers: JSON_HEADERS,
      body: JSON.stringify(body),
      signal,
    });
  async function remove(what: string, at: string, { signal }: CallOptions = {}): Promise<void> {
    const response = await transport.send({ what, method: 'DELETE', path: at, signal });
    await response.text();
  }

  return {
    swarm: {
      get: (options) => read('read the swarm', path('swarm'), options),
      init: (request = {}, options) => write('init a swarm', path('swarm'), request, options),
      end: (options) => remove('end the swarm', path('swarm'), options),
      joinToken: (role, options) => read(`read the ${role} token`, path('swarm', 'tokens', role), options),
      rotateJoinToken: (role, options) =>
        write(`rotate the ${role} token`, path('swarm', 'tokens', role), {}, options),
    },
    nodes: (options) =>
      read<{ nodes: NodeRecord[] }>('list nodes', path('nodes'), options).then((body) => body.nodes),
    node: {
      update: (node, update, options) => write(`update node ${node}`, path('nodes', node), update, options),
      tasks: (node, options) =>
        read<{ tasks: NodeTask[] }>(`tasks of node ${node}`, path('nodes', node, 'tasks'), options).then(
          (body) => body.tasks,
        ),
      remove: (node, options = {}) =>
        remove(`remove node ${node}`, `${path('nodes', node)}${options.force ? '?force=true' : ''}`, options),
    },
    services: {
      list: (options) =>
        read<{ services: ServiceState[] }>('list services', path('services'), options).then(
          (body) => body.services,
        ),
      get: (name, options) => read(`service ${name}`, path('services', name), options),
      create: (request, options) =>
        write(`create service ${request.name}`, path('services'), request, options),
      update: (name, update, options) =>
        write(`update service ${name}`, path('services', name), update, options),
      rollback: (name, options) =>
        write(`roll back service ${name}`, path('services', name, 'rollback'), {}, options),
      remove: (name, options) => remove(`remove service ${name}`, path('services', name), options),
    },
    volumes: {
      list: (options) =>
        read<{ volumes: VolumeState[] }>('list volumes', path('volumes'), options).then(
          (body) => body.volumes,
        ),
      get: (name, options) => read(`volume ${name}`, path('volumes', name), options),
      remove: (name, options = {}) =>
        remove(
          `remove volume ${name}`,
          `${path('volumes', name)}${options.force ? '?force=true' : ''}`,
          options,
        ),
    },
    explain: (subject, options) => read(`explain ${subject}`, path('explain', subject), options),
  };
}
