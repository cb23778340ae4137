/**
 * Upload, build, go live. Invariant: a build's events are delivered in order and once, also when the connection
 * that carries them is cut and opened again (the server repeats them from the first).
 */
import type { BuildEvent, BuildRecord, DeployResult, DeployRequest } from '../protocol/api.ts';
import { type ErrorCode, ERRORS } from '../protocol/errors.ts';
import { ClientError, isCut } from './error.ts';
import { type ByteStream, type ClientResponse, readJsonLines } from './fetch.ts';
import type { CallOptions, Functions } from './functions.ts';
import { wait } from './retry.ts';
import type { Transport } from './transport.ts';

/** A tar archive. A stream as a function can be sent again when the server asks for it. */
export type Source = Uint8Array | ByteStream | (() => ByteStream);

export interface DeployOptions extends CallOptions {
  readonly source: Source;
  /** Entry module inside the source; found by the usual names when absent. */
  readonly entry?: string | undefined;
  /** What is not given is taken from the function's own `config`, then from the defaults. */
  readonly config?: Readonly<Record<string, unknown>> | undefined;
  readonly onEvent?: ((event: BuildEvent) => void) | undefined;
  /** Called once the source is on the server. */
  readonly onUploaded?: ((upload: Upload & { readonly ms: number }) => void) | undefined;
  /** Called once the build is ordered. */
  readonly onStarted?: ((started: StartedDeploy) => void) | undefined;
}

export type Upload = DeployRequest['source'];

export interface StartedDeploy {
  /** Build id. */
  readonly build: string;
  /** Id the deployment will have. */
  readonly deployment: string;
  readonly uploadMs: number;
}

export interface Deploys {
  upload(source: Source, options?: CallOptions): Promise<Upload>;
  /** Uploads, orders the build and returns at once. */
  startDeploy(name: string, options: DeployOptions): Promise<StartedDeploy>;
  /** Everything until the function is live. Throws ClientError with the build's own code when it fails. */
  deploy(name: string, options: DeployOptions): Promise<DeployResult>;
  build(id: string, options?: CallOptions): Promise<BuildRecord>;
  /** A waiting build ends at once, a running one as soon as its builder notices. Ended ones stay as they are. */
  cancelBuild(id: string, options?: CallOptions): Promise<BuildRecord>;
  /** All events of a build, past ones first, until it ends. */
  buildEvents(id: string, options?: CallOptions): AsyncGenerator<BuildEvent, void, undefined>;
  /** Waits for the end of a build, whatever it is. */
  followBuild(
    id: string,
    options?: CallOptions & { readonly onEvent?: ((event: BuildEvent) => void) | undefined },
  ): Promise<BuildRecord>;
}

const RECONNECTS_MAX = 20;
const RECONNECT_MS = 250;

export function createDeploys(transport: Transport<ClientResponse>, functions: Functions): Deploys {
  const upload: Deploys['upload'] = (source, { signal } = {}) =>
    transport.json({
      what: 'upload the source',
      method: 'POST',
      path: '/v1/uploads',
      headers: [['content-type', 'application/x-tar']],
      body: source,
      timeoutMs: 0,
      signal,
    });

  async function* buildEvents(id: string, { signal }: CallOptions = {}) {
    const path = `/v1/builds/${encodeURIComponent(id)}/events`;
    let seen = 0;
    let isOpened = false;
    for (let cuts = 0; ; cuts++) {
      let index = 0;
      try {
        const response = await transport.send({ what: `events of build ${id}`, path, signal });
        isOpened = true;
        for await (const event of readJsonLines<BuildEvent>(response.body)) {
          if (index++ < seen) continue;
          seen = index;
          yield event;
          if (event.type === 'end') return;
        }
      } catch (error) {
        signal?.throwIfAborted();
        if (!isOpened || !isCut(error) || cuts >= RECONNECTS_MAX) throw error;
      }
      if (cuts >= RECONNECTS_MAX) throw cut(id);
      await wait(RECONNECT_MS, signal);
    }
  }

  const followBuild: Deploys['followBuild'] = async (id, { signal, onEvent } = {}) => {
    for await (const event of buildEvents(id, { signal })) {
      onEvent?.(event);
      if (event.type === 'end') return event.build;
    }
    throw cut(id);
  };

  async function startDeploy(name: string, options: DeployOptions): Promise<StartedDeploy> {
    const startMs = Date.now();
    const source = await upload(options.source, options);
    const uploadMs = Date.now() - startMs;
    options.onUploaded?.({ ...source, ms: uploadMs });
    const started = await transport.json<{ build: string; deployment: string }>({
      what: `deploy ${name}`,
      method: 'POST',
      path: `/v1/functions/${encodeURIComponent(name)}/deployments`,
      headers: [['content-type', 'application/json']],
      body: JSON.stringify({ source, entry: options.entry, config: options.config }),
      signal: options.signal,
    });
    const result = { ...started, uploadMs };
    options.onStarted?.(result);
    return result;
  }

  async function deploy(name: string, options: DeployOptions): Promise<DeployResult> {
    const startMs = Date.now();
    const started = await startDeploy(name, options);
    const ms: Record<string, number> = { upload: started.uploadMs };
    const build = await followBuild(started.build, {
      signal: options.signal,
      onEvent(event) {
        if (event.type === 'step' && event.ms !== undefined) ms[event.step] = event.ms;
        options.onEvent?.(event);
      },
    });
    if (build.state !== 'succeeded') throw buildFailure(name, build);
    ms['total'] = Date.now() - startMs;
    const id = build.deployment ?? started.deployment;
    const [record, deployment] = await Promise.all([
      functions.get(name, options),
      functions.deployment(id, options),
    ]);
    return { name, url: record.url, deployment: id, image: deployment.image.reference, ms };
  }

  return {
    upload,
    startDeploy,
    deploy,
    buildEvents,
    followBuild,
    cancelBuild: (id, { signal } = {}) =>
      transport.json({
        what: `cancel build ${id}`,
        method: 'DELETE',
        path: `/v1/builds/${encodeURIComponent(id)}`,
        signal,
      }),
    build: (id, { signal } = {}) =>
      transport.json({ what: `build ${id}`, path: `/v1/builds/${encodeURIComponent(id)}`, signal }),
  };
}

function buildFailure(name: string, build: BuildRecord): ClientError {
  const given = build.error?.code;
  const code: ErrorCode = given !== undefined && given in ERRORS ? (given as ErrorCode) : 'BUILD_FAILED';
  const detail = build.error?.message ?? `the build of "${name}" was ${build.state}`;
  return new ClientError({ code, status: ERRORS[code].status, fault: ERRORS[code].fault, detail });
}

function cut(id: string): ClientError {
  const detail = `events of build ${id}: the connection was cut again and again; the build may still be running`;
  return new ClientError({ code: 'UNREACHABLE', status: 0, detail });
}
