/** Upload, build, go live. */
import type { BuildEvent, BuildRecord, DeployResult, DeployRequest } from '../protocol/api.ts';
import { type ErrorCode, ERRORS } from '../protocol/errors.ts';
import type { Builds } from './builds.ts';
import { ClientError } from './error.ts';
import type { ByteStream, ClientResponse } from './fetch.ts';
import type { CallOptions, Functions } from './functions.ts';
import type { Transport } from './transport.ts';

/** A tar archive. A stream as a function can be sent again when the server asks for it. */
export type Source = Uint8Array | ByteStream | (() => ByteStream);

export interface DeployOptions extends CallOptions {
  /** This, `image` or `from`. */
  readonly source?: Source;
  /** An image that listens on $PORT, as `registry.example:5000/name:tag`. */
  readonly image?: string | undefined;
  /** A deployment of this function, in place of a source: its code again, with `config` laid over its own. */
  readonly from?: string | undefined;
  /** Percent of the traffic it gets, 1 to 99; what is live keeps the rest. Absent: all. */
  readonly canary?: number | undefined;
  /** Entry module inside the source; found by the usual names when absent. */
  readonly entry?: string | undefined;
  /** As in FunctionConfig: `{ memory: '512MB', timeout: '10s' }`. What is not given has its default. */
  readonly config?: Readonly<Record<string, unknown>> | undefined;
  /** For `startDeploy`: makes the image, deploys nothing. */
  readonly buildOnly?: boolean | undefined;
  readonly onEvent?: ((event: BuildEvent) => void) | undefined;
  /** Called once the source is on the server. */
  readonly onUploaded?: ((upload: Upload & { readonly ms: number }) => void) | undefined;
  /** Called once the build is ordered. */
  readonly onStarted?: ((started: StartedDeploy) => void) | undefined;
}

export type Upload = NonNullable<DeployRequest['source']>;

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
  /** Makes the image and deploys nothing. Throws ClientError when it fails. */
  buildImage(name: string, options: DeployOptions): Promise<BuildRecord>;
}

export function createDeploys(
  transport: Transport<ClientResponse>,
  functions: Functions,
  builds: Builds,
): Deploys {
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

  async function startDeploy(name: string, options: DeployOptions): Promise<StartedDeploy> {
    const startMs = Date.now();
    const source = options.source === undefined ? undefined : await upload(options.source, options);
    const uploadMs = Date.now() - startMs;
    if (source) options.onUploaded?.({ ...source, ms: uploadMs });
    options.signal?.throwIfAborted();
    const started = await transport.json<{ build: string; deployment: string }>({
      what: `deploy ${name}`,
      method: 'POST',
      path: `/v1/functions/${encodeURIComponent(name)}/deployments`,
      headers: [['content-type', 'application/json']],
      body: JSON.stringify({
        source,
        image: options.image,
        from: options.from,
        canary: options.canary,
        entry: options.entry,
        config: options.config,
        buildOnly: options.buildOnly,
      }),
      // Not interrupted: an order whose answer is lost cannot be cancelled, as nobody knows its id.
    });
    const result = { ...started, uploadMs };
    options.onStarted?.(result);
    options.signal?.throwIfAborted();
    return result;
  }

  async function deploy(name: string, options: DeployOptions): Promise<DeployResult> {
    const startMs = Date.now();
    const started = await startDeploy(name, options);
    const ms: Record<string, number> = { upload: started.uploadMs };
    const build = await builds.followBuild(started.build, {
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

  async function buildImage(name: string, options: DeployOptions): Promise<BuildRecord> {
    const started = await startDeploy(name, { ...options, buildOnly: true });
    const record = await builds.followBuild(started.build, options);
    if (record.state !== 'succeeded') throw buildFailure(name, record);
    return record;
  }

  return { upload, startDeploy, deploy, buildImage };
}

function buildFailure(name: string, build: BuildRecord): ClientError {
  const given = build.error?.code;
  const code: ErrorCode = given !== undefined && given in ERRORS ? (given as ErrorCode) : 'BUILD_FAILED';
  const detail = build.error?.message ?? `the build of "${name}" was ${build.state}`;
  return new ClientError({ code, status: ERRORS[code].status, fault: ERRORS[code].fault, detail });
}
