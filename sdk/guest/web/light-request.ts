/**
 * A Request that costs almost nothing until it is looked at. It answers everything a handler usually asks from the
 * frame itself, becomes a real Request for the rest (clone, formData, blob), and is an instance of the runtime's class
 * as soon as that is loaded. Constructing the real one for each call costs more than the whole transport.
 */
import { Readable } from 'node:stream';
import type { HeaderList } from '../../protocol/invocation.ts';
import type { BodySource } from '../channel/body-source.ts';
import { LightHeaders } from './light-headers.ts';
import { loadRuntimeClasses } from './runtime-classes.ts';

export interface RequestParts {
  readonly head: { readonly method: string; readonly url: string; readonly headers: HeaderList };
  readonly body: BodySource | undefined;
  /** Its `signal` is asked for when the request's is: most handlers never do. */
  readonly owner: { readonly signal: AbortSignal };
}

const BOM = 0xfeff;

export class LightRequest {
  readonly #parts: RequestParts;
  #url: string | undefined;
  #headers: LightHeaders | undefined;
  #stream: ReadableStream<Uint8Array> | undefined;
  #real: Request | undefined;

  constructor(parts: RequestParts) {
    this.#parts = parts;
  }

  static isLight(value: unknown): boolean {
    return typeof value === 'object' && value !== null && #parts in value;
  }

  /** The real one behind `value` if it is one of ours. */
  static unwrap(value: unknown): unknown {
    return typeof value === 'object' && value !== null && #parts in value ? value.#promote() : value;
  }

  get method(): string {
    return this.#parts.head.method;
  }

  get url(): string {
    return (this.#url ??= new URL(this.#parts.head.url).href);
  }

  get headers(): LightHeaders {
    return (this.#headers ??= LightHeaders.fromChecked(this.#parts.head.headers));
  }

  get signal(): AbortSignal {
    return this.#parts.owner.signal;
  }

  get body(): ReadableStream<Uint8Array> | null {
    if (this.#real) return this.#real.body;
    const { body } = this.#parts;
    if (!body) return null;
    if (!this.#stream) {
      // The stream of a body that was read with text() exists but is spent.
      if (body.isUsed) return this.#promote().body;
      body.isUsed = true;
      this.#stream = body.stream();
    }
    return this.#stream;
  }

  get bodyUsed(): boolean {
    if (this.#real) return this.#real.bodyUsed;
    return this.#stream ? Readable.isDisturbed(this.#stream as never) : (this.#parts.body?.isUsed ?? false);
  }

  async text(): Promise<string> {
    const bytes = await this.#collect();
    const text = bytes.toString('utf8');
    return text.charCodeAt(0) === BOM ? text.slice(1) : text;
  }

  async json(): Promise<unknown> {
    return JSON.parse(await this.text());
  }

  async bytes(): Promise<Uint8Array> {
    const bytes = await this.#collect();
    return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  async arrayBuffer(): Promise<ArrayBuffer> {
    const bytes = await this.#collect();
    return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
  }

  #collect(): Buffer | Promise<Buffer> {
    if (this.#real) return this.#real.arrayBuffer().then((bytes) => Buffer.from(bytes));
    if (this.#stream)
      return new (loadRuntimeClasses().Response)(this.#stream)
        .arrayBuffer()
        .then((bytes) => Buffer.from(bytes));
    const { body } = this.#parts;
    if (!body) return Buffer.alloc(0);
    if (body.isUsed) throw new TypeError('Body is unusable: Body has already been read');
    body.isUsed = true;
    return body.tryCollectNow() ?? body.collect();
  }

  #promote(): Request {
    if (this.#real) return this.#real;
    const { head, owner, body } = this.#parts;
    const { method } = head;
    const isSpent = this.bodyUsed;
    const hasBody = body !== undefined && method !== 'GET' && method !== 'HEAD';
    const init: RequestInit & { duplex?: string } = {
      method,
      headers: [...this.headers],
      signal: owner.signal,
    };
    if (hasBody) {
      init.body = isSpent ? '' : this.body;
      init.duplex = 'half';
    }
    this.#real = new (loadRuntimeClasses().Request)(this.url, init);
    // A body that was read before must look read.
    if (hasBody && isSpent) void this.#real.text();
    return this.#real;
  }
}

/** Everything else a Request has is asked of the real one. */
const RARE_PROPERTIES = [
  'cache',
  'credentials',
  'destination',
  'duplex',
  'integrity',
  'isHistoryNavigation',
  'isReloadNavigation',
  'keepalive',
  'mode',
  'redirect',
  'referrer',
  'referrerPolicy',
] as const;
const RARE_METHODS = ['blob', 'clone', 'formData'] as const;

for (const name of RARE_PROPERTIES) {
  Object.defineProperty(LightRequest.prototype, name, {
    configurable: true,
    get(this: LightRequest) {
      return Reflect.get(LightRequest.unwrap(this) as Request, name);
    },
  });
}
for (const name of RARE_METHODS) {
  Object.defineProperty(LightRequest.prototype, name, {
    configurable: true,
    writable: true,
    value(this: LightRequest) {
      return (LightRequest.unwrap(this) as Request)[name]();
    },
  });
}
