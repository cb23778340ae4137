/**
 * The part of `fetch` the client stands on. Narrow on purpose: the global `fetch` of Node, Bun, Deno and browsers
 * fits, and so does a few lines over node:http, which starts 35 ms sooner (the CLI uses that).
 */

/** Bytes that arrive over time: a web stream, a Node stream, or any async iterable. */
export type ByteStream = ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>;

/** A stream can be sent once; give a function that opens it anew where a retry should be possible. */
export type RequestBody = string | Uint8Array | ByteStream | (() => ByteStream);

export interface FetchInit {
  readonly method: string;
  readonly headers: [string, string][];
  readonly body?: string | Uint8Array | ByteStream;
  readonly signal?: AbortSignal;
  readonly redirect: 'manual' | 'follow';
  /** The Fetch Standard asks for it when the body is a stream. */
  readonly duplex?: 'half';
}

export interface ClientResponse {
  readonly status: number;
  readonly headers: { get(name: string): string | null; entries(): Iterable<[string, string]> };
  readonly body: ByteStream | null;
  text(): Promise<string>;
}

export type FetchLike<R extends ClientResponse> = (url: string, init: FetchInit) => Promise<R>;

/** Iterates any byte stream; web streams by their reader, as not every browser iterates them. */
export async function* readChunks(stream: ByteStream | null): AsyncGenerator<Uint8Array, void, undefined> {
  if (stream === null) return;
  if (!('getReader' in stream)) {
    yield* stream;
    return;
  }
  const reader = stream.getReader();
  let isDone = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      isDone = done;
      if (value === undefined) return;
      yield value;
    }
  } finally {
    // A consumer that stops early must free the connection.
    if (!isDone) await reader.cancel().catch(() => {});
  }
}

/** A line longer than any Skiff sends means that the other side is not Skiff. */
const LINE_CHARS_MAX = 4 * 1024 * 1024;

/** Whole lines. A last line without a line feed is incomplete (the stream was cut) and is left out. */
async function* readLines(stream: ByteStream | null): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder();
  let pending = '';
  for await (const chunk of readChunks(stream)) {
    const lines = (pending + decoder.decode(chunk, { stream: true })).split('\n');
    pending = lines.pop() ?? '';
    yield* lines;
    if (pending.length > LINE_CHARS_MAX)
      throw new RangeError(`a line is longer than ${LINE_CHARS_MAX} characters`);
  }
}

/** One JSON value a line. */
export async function* readJsonLines<T>(stream: ByteStream | null): AsyncGenerator<T, void, undefined> {
  for await (const line of readLines(stream)) if (line.trim() !== '') yield JSON.parse(line) as T;
}

/** Server-sent events whose data is one JSON value on one line, as Skiff writes them; other fields are left out. */
export async function* readEvents<T>(stream: ByteStream | null): AsyncGenerator<T, void, undefined> {
  for await (const line of readLines(stream))
    if (line.startsWith('data: ')) yield JSON.parse(line.slice('data: '.length)) as T;
}
