/**
 * Where the bytes of an image come from: the registry, and before it other hosts that have them, if there are any.
 * Invariant: whoever they come from, they are checked against the digest; what another host sent is unpacked only after
 * that. Deliberately absent: which hosts, and how long they are waited for (PeerSource).
 */
import { createReadStream, createWriteStream } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { MANIFEST_BYTES_MAX } from '../../../sdk/protocol/limits.ts';
import type { Descriptor, ManifestDocument } from '../manifest.ts';
import type { Registry } from '../registry.ts';

/** A host that answers as a registry does, and what ends the wait for it. */
export interface PeerCall {
  readonly peer: Pick<Registry, 'pullBlob' | 'readBlob' | 'getManifest'>;
  readonly signal: AbortSignal;
  /** To be told of what came. */
  onBytes(bytes: number): void;
}

export interface PeerSource {
  /** Whether others are asked, and given what is here. */
  readonly isOn: boolean;
  /**
   * What some host, or else the registry, answers. `size`: `large` is worth waiting for while another host gets it.
   * @throws what `fromRegistry` throws
   */
  fetch<T>(
    wanted: { readonly digest: string; readonly size: 'small' | 'large' },
    fromPeer: (call: PeerCall) => Promise<T>,
    fromRegistry: () => Promise<T>,
  ): Promise<T>;
}

export interface BlobWanted {
  readonly repository: string;
  readonly digest: string;
  readonly bytes: number;
}

const CHUNK_BYTES = 256 * 1024;

export class Sources {
  readonly #registry: Registry;
  readonly #peers: PeerSource | undefined;

  constructor(registry: Registry, peers: PeerSource | undefined) {
    this.#registry = registry;
    this.#peers = peers;
  }

  /** Whether what comes is kept for others. */
  get isShared(): boolean {
    return this.#peers?.isOn ?? false;
  }

  /** What `read` makes of the blob. When it is shared, the blob is in `file` then. */
  async readLayer<T>(blob: BlobWanted, file: string, read: (stream: Readable) => Promise<T>): Promise<T> {
    const { repository, digest, bytes } = blob;
    if (!this.#peers?.isOn) return read(await this.#registry.pullBlob(repository, digest, { bytes }));
    const outcome = await this.#peers.fetch(
      { digest, size: 'large' },
      async ({ peer, signal, onBytes }): Promise<{ value: T } | undefined> => {
        const stream = await peer.pullBlob(repository, digest, { bytes, signal, resumesMax: 0 });
        const counted = async function* (chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
          for await (const chunk of chunks) {
            onBytes(chunk.length);
            yield chunk;
          }
        };
        await pipeline(stream, counted, createWriteStream(file), { signal });
        return undefined;
      },
      async () => {
        const stream = await this.#registry.pullBlob(repository, digest, { bytes });
        return { value: await readAndKeep(stream, file, read) };
      },
    );
    return outcome ? outcome.value : read(createReadStream(file, { highWaterMark: CHUNK_BYTES }));
  }

  getManifest(repository: string, digest: string): Promise<ManifestDocument> {
    return this.#small(
      digest,
      ({ peer, signal }) => peer.getManifest(repository, digest, signal),
      () => this.#registry.getManifest(repository, digest),
    );
  }

  readBlob(repository: string, descriptor: Pick<Descriptor, 'digest' | 'size'>): Promise<Buffer> {
    // Refused by whoever is asked; no peer is to blame for that.
    if (descriptor.size > MANIFEST_BYTES_MAX) return this.#registry.readBlob(repository, descriptor);
    return this.#small(
      descriptor.digest,
      ({ peer, signal }) => peer.readBlob(repository, descriptor, signal),
      () => this.#registry.readBlob(repository, descriptor),
    );
  }

  #small<T>(
    digest: string,
    fromPeer: (call: PeerCall) => Promise<T>,
    fromRegistry: () => Promise<T>,
  ): Promise<T> {
    if (!this.#peers?.isOn) return fromRegistry();
    return this.#peers.fetch({ digest, size: 'small' }, fromPeer, fromRegistry);
  }
}

/** What is read is written to `file` on the way. A disk that is full costs the copy, not the reading. */
async function readAndKeep<T>(
  stream: Readable,
  file: string,
  read: (stream: Readable) => Promise<T>,
): Promise<T> {
  const handle = await open(file, 'w', 0o600);
  let isKept = true;
  let isWhole = false;
  async function* copy(): AsyncGenerator<Buffer> {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      if (isKept) await handle.writeFile(chunk).catch(() => (isKept = false));
      yield chunk;
    }
    isWhole = true;
  }
  try {
    return await read(Readable.from(copy(), { objectMode: false, highWaterMark: CHUNK_BYTES }));
  } finally {
    stream.destroy();
    await handle.close();
    if (!isKept || !isWhole) await rm(file, { force: true });
  }
}
