/**
 * Client of an OCI distribution registry (specification 1.1): blobs, manifests, tags.
 * Invariant: every byte that enters or leaves is checked against its digest, sizes are bounded, and names are
 * validated before they become part of a URL. A registry that is away fails at once with UNAVAILABLE.
 * Deliberately absent: images as a whole (builder/image composes them, store.ts unpacks them).
 */
import { Readable } from 'node:stream';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { MANIFEST_BYTES_MAX } from '../../sdk/protocol/limits.ts';
import { digestOf, isDigest, parseDigest, parseRepository, parseTagOrDigest } from './digest.ts';
import {
  INDEX_MEDIA,
  MANIFEST_MEDIA,
  parseManifest,
  type Descriptor,
  type ManifestDocument,
} from './manifest.ts';
import { readLimited } from './transfer/auth.ts';
import { pullVerified, type PullOptions } from './transfer/pull.ts';
import {
  headBlob,
  mountBlob,
  pushBytes,
  pushFile,
  pushStream,
  type BlobSource,
  type PushedBlob,
} from './transfer/push.ts';
import { openTransport, type Patience, type TlsOptions, type Transport } from './transfer/transport.ts';

export interface RegistryOptions {
  /** `http(s)://host[:port]`. */
  readonly url: string;
  readonly user?: string | undefined;
  readonly password?: string | undefined;
  /** For a registry that asks for certificates, or whose own is not signed by a CA of the system. */
  readonly tls?: TlsOptions | undefined;
  /** Absent: that of a registry which may be far and busy. */
  readonly patience?: Patience | undefined;
}

/** All methods reject with SkiffError UNAVAILABLE when the registry is away or refuses our credentials. */
export interface Registry {
  readonly url: string;
  /** Resolves when the registry answers its API root. */
  ping(): Promise<void>;
  /** Size in bytes, undefined when the repository does not have the blob. */
  headBlob(repository: string, digest: string): Promise<number | undefined>;
  /**
   * Uploads a blob unless the repository has it. A stream is destroyed in the end, and when it fails the upload is
   * cancelled and its own error is thrown. @throws SkiffError INVALID_SOURCE when the bytes differ from `digest`.
   */
  pushBlob(repository: string, source: BlobSource, digest?: string): Promise<PushedBlob>;
  /** Shares a blob of repository `from` without moving bytes; false when `from` does not have it. */
  mountBlob(repository: string, digest: string, from: string): Promise<boolean>;
  /**
   * The stream fails with SkiffError INTERNAL (`details.reason` `digest_mismatch`) when bytes or size differ, so do
   * not use what came before its end. @throws SkiffError NOT_FOUND
   */
  pullBlob(repository: string, digest: string, options?: PullOptions): Promise<Readable>;
  /** A small blob as a whole, checked against its descriptor. @throws SkiffError NOT_FOUND, INTERNAL, INVALID_SOURCE */
  readBlob(
    repository: string,
    descriptor: Pick<Descriptor, 'digest' | 'size'>,
    signal?: AbortSignal,
  ): Promise<Buffer>;
  /** @throws SkiffError NOT_FOUND, INVALID_SOURCE (malformed or ambiguous), INTERNAL (other bytes than the digest) */
  getManifest(repository: string, tagOrDigest: string, signal?: AbortSignal): Promise<ManifestDocument>;
  /** Digest behind a tag, undefined when there is none. */
  headManifest(repository: string, tagOrDigest: string): Promise<string | undefined>;
  /** Stores a document under a tag, or under its digest when no tag is given. Returns the digest. */
  putManifest(repository: string, bytes: Buffer, mediaType: string, tag?: string): Promise<string>;
  /** Names of all repositories, also of those that are empty by now. */
  listRepositories(): Promise<string[]>;
  /** Empty when there is no such repository. */
  listTags(repository: string): Promise<string[]>;
  /** Resolves to false when it was not there. */
  deleteManifest(repository: string, digest: string): Promise<boolean>;
  deleteBlob(repository: string, digest: string): Promise<boolean>;
  close(): Promise<void>;
}

const ACCEPT = [...MANIFEST_MEDIA, ...INDEX_MEDIA].join(', ');
const NAMES_MAX = 10_000;
const LIST_BYTES_MAX = 4 * 1024 * 1024;

/** Opens nothing yet: the first request connects. @throws SkiffError INVALID_CONFIG for an unusable URL */
export function openRegistry(options: RegistryOptions): Registry {
  const { user, password } = options;
  const credentials = user === undefined ? undefined : { user, password: password ?? '' };
  const transport = openTransport(options.url, credentials, options.tls, options.patience);
  return {
    url: transport.url.origin,
    ping: () => ping(transport),
    headBlob: async (repository, digest) =>
      headBlob(transport, parseRepository(repository), parseDigest(digest)),
    pushBlob: async (repository, source, digest) => {
      parseRepository(repository);
      if (digest !== undefined) parseDigest(digest);
      return pushBlob(transport, repository, source, digest);
    },
    mountBlob: async (repository, digest, from) =>
      mountBlob(transport, parseRepository(repository), parseDigest(digest), parseRepository(from)),
    pullBlob: async (repository, digest, pull = {}) =>
      pullVerified(transport, parseRepository(repository), parseDigest(digest), pull),
    readBlob: async (repository, descriptor, signal) =>
      readBlob(transport, parseRepository(repository), descriptor, signal),
    getManifest: async (repository, reference, signal) =>
      getManifest(transport, parseRepository(repository), parseTagOrDigest(reference), signal),
    headManifest: async (repository, reference) =>
      headManifest(transport, parseRepository(repository), parseTagOrDigest(reference)),
    putManifest: async (repository, bytes, mediaType, tag) =>
      putManifest(transport, parseRepository(repository), bytes, mediaType, tag && parseTagOrDigest(tag)),
    listRepositories: () => listPages(transport, '/v2/_catalog?n=1000', 'registry:catalog:*', 'repositories'),
    listTags: async (repository) =>
      listPages(
        transport,
        `/v2/${parseRepository(repository)}/tags/list?n=1000`,
        `repository:${repository}:pull`,
        'tags',
      ),
    deleteManifest: async (repository, digest) =>
      remove(transport, parseRepository(repository), 'manifests', digest),
    deleteBlob: async (repository, digest) => remove(transport, parseRepository(repository), 'blobs', digest),
    close: () => transport.close(),
  };
}

async function ping(transport: Transport): Promise<void> {
  const reply = await transport.send({ method: 'GET', path: '/v2/', scope: '', expect: [200] });
  await reply.body.dump();
}

async function pushBlob(
  transport: Transport,
  repository: string,
  source: BlobSource,
  digest: string | undefined,
): Promise<PushedBlob> {
  if (source instanceof Readable) return pushStream(transport, repository, source, digest);
  const pushed = Buffer.isBuffer(source)
    ? await pushBytes(transport, repository, source)
    : await pushFile(transport, repository, source.file);
  if (digest === undefined || digest === pushed.digest) return pushed;
  throw new SkiffError('INVALID_SOURCE', `the bytes have digest ${pushed.digest}, not ${digest} as stated`);
}

async function readBlob(
  transport: Transport,
  repository: string,
  descriptor: Pick<Descriptor, 'digest' | 'size'>,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  if (descriptor.size > MANIFEST_BYTES_MAX) {
    throw new SkiffError(
      'INVALID_SOURCE',
      `blob ${descriptor.digest} has ${descriptor.size} bytes; the limit of a document is ${MANIFEST_BYTES_MAX}`,
    );
  }
  const stream = await pullVerified(transport, repository, parseDigest(descriptor.digest), {
    bytes: descriptor.size,
    signal,
  });
  return readLimited(stream as AsyncIterable<Buffer>, MANIFEST_BYTES_MAX);
}

function manifestCall(repository: string, reference: string, method: 'GET' | 'HEAD') {
  const path = `/v2/${repository}/manifests/${reference}`;
  return { method, path, scope: `repository:${repository}:pull`, headers: { accept: ACCEPT } };
}

async function getManifest(
  transport: Transport,
  repository: string,
  reference: string,
  signal?: AbortSignal,
): Promise<ManifestDocument> {
  const reply = await transport.send({
    ...manifestCall(repository, reference, 'GET'),
    expect: [200],
    signal,
  });
  const bytes = await readLimited(reply.body, MANIFEST_BYTES_MAX);
  const actual = digestOf(bytes);
  const stated = isDigest(reference) ? reference : reply.headers['docker-content-digest'];
  if (typeof stated === 'string' && stated !== actual) {
    throw new SkiffError(
      'INTERNAL',
      `registry ${transport.url.origin} served a manifest with digest ${actual} for ${stated}`,
      {
        details: { digest: stated, reason: 'digest_mismatch' },
      },
    );
  }
  return parseManifest(bytes, String(reply.headers['content-type'] ?? ''));
}

async function headManifest(
  transport: Transport,
  repository: string,
  reference: string,
): Promise<string | undefined> {
  const reply = await transport.send({ ...manifestCall(repository, reference, 'HEAD'), expect: [200, 404] });
  await reply.body.dump();
  if (reply.statusCode === 404) return undefined;
  const digest = reply.headers['docker-content-digest'];
  // Registries need not send the header; the document itself always tells.
  if (typeof digest !== 'string') return (await getManifest(transport, repository, reference)).digest;
  return parseDigest(digest);
}

async function putManifest(
  transport: Transport,
  repository: string,
  bytes: Buffer,
  mediaType: string,
  tag: string | undefined,
): Promise<string> {
  const { digest } = parseManifest(bytes, mediaType);
  if (bytes.length > MANIFEST_BYTES_MAX) {
    throw new SkiffError(
      'INVALID_SOURCE',
      `manifest ${digest} has ${bytes.length} bytes; the limit is ${MANIFEST_BYTES_MAX}`,
    );
  }
  const reply = await transport.send({
    method: 'PUT',
    path: `/v2/${repository}/manifests/${tag || digest}`,
    scope: `repository:${repository}:pull,push`,
    expect: [201],
    headers: { 'content-type': mediaType },
    body: bytes,
  });
  await reply.body.dump();
  const stated = reply.headers['docker-content-digest'];
  if (typeof stated === 'string' && stated !== digest) {
    throw new SkiffError(
      'INTERNAL',
      `registry ${transport.url.origin} stored manifest ${digest} as ${stated}`,
    );
  }
  return digest;
}

/** All pages of a list of names; empty when there is no such list. */
async function listPages(
  transport: Transport,
  first: string,
  scope: string,
  field: 'tags' | 'repositories',
): Promise<string[]> {
  const names: string[] = [];
  let path: string | undefined = first;
  while (path !== undefined && names.length < NAMES_MAX) {
    const reply = await transport.send({ method: 'GET', path, scope, expect: [200, 404] });
    const body = await readLimited(reply.body, LIST_BYTES_MAX);
    if (reply.statusCode === 404) return names;
    names.push(...((JSON.parse(body.toString('utf8')) as Record<string, string[] | null>)[field] ?? []));
    const next = /<([^>]+)>\s*;\s*rel="?next"?/.exec(String(reply.headers['link'] ?? ''))?.[1];
    const url: URL | undefined = next === undefined ? undefined : new URL(next, transport.url);
    path = url && url.pathname + url.search;
  }
  return names;
}

async function remove(
  transport: Transport,
  repository: string,
  kind: 'manifests' | 'blobs',
  digest: string,
): Promise<boolean> {
  const reply = await transport.send({
    method: 'DELETE',
    path: `/v2/${repository}/${kind}/${parseDigest(digest)}`,
    // "*" is what the distribution registry's token scheme calls the right to delete.
    scope: `repository:${repository}:${kind === 'manifests' ? 'pull,push,delete' : '*'}`,
    expect: [200, 202, 204, 404],
  });
  await reply.body.dump();
  return reply.statusCode !== 404;
}
