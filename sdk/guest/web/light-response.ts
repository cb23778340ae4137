/**
 * A Response that keeps its body and headers as they were given, so that the usual answer (a string or bytes, plain
 * headers) is framed without building a stream and a Headers object. It
 * becomes a real one as soon as anything unusual is asked of it. Invariant: whatever the real constructor refuses,
 * this one refuses too, by handing the odd cases to it.
 */
import { Readable } from 'node:stream';
import type { HeaderList } from '../../protocol/invocation.ts';
import { LightHeaders } from './light-headers.ts';
import { loadRuntimeClasses, tryLoadedClasses } from './runtime-classes.ts';

type MutableHeaderList = [string, string][];

/** Statuses that forbid a body, or that only the runtime itself may make. */
const NULL_BODY_STATUS: ReadonlySet<number> = new Set([101, 103, 204, 205, 304]);
const REDIRECT_STATUS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
const HEADER_NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** Visible text and blanks; no line ends, no NUL, nothing above one byte, no blanks at the ends. */
const HEADER_VALUE = /^(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?$/;

/** The usual plain object of headers, without building a Headers of it; undefined for everything else. */
function tryListPlain(headers: object): MutableHeaderList | undefined {
  if (Symbol.iterator in headers) return undefined;
  const list: MutableHeaderList = [];
  for (const name of Object.keys(headers)) {
    const value: unknown = (headers as Record<string, unknown>)[name];
    const text = typeof value === 'number' ? String(value) : value;
    if (typeof text !== 'string' || !HEADER_NAME.test(name) || !HEADER_VALUE.test(text)) return undefined;
    const lower = name.toLowerCase();
    if (hasHeader(list, lower)) return undefined;
    list.push([lower, text]);
  }
  return list;
}

/** Throws TypeError as the Headers constructor does. */
function listHeaders(headers: unknown): MutableHeaderList {
  if (headers === undefined) return [];
  const plain = typeof headers === 'object' && headers !== null ? tryListPlain(headers) : undefined;
  return plain ?? [...new LightHeaders(headers)];
}

function hasHeader(list: MutableHeaderList, name: string): boolean {
  for (const [other] of list) if (other === name) return true;
  return false;
}

/** What a response is on the wire when nothing made it a real one. */
export interface SimpleResponse {
  readonly status: number;
  readonly headers: HeaderList;
  readonly body: string | Uint8Array | undefined;
}

type LightBody = string | Uint8Array | ReadableStream<Uint8Array>;

/** The body as we keep it, or undefined when the real constructor must look at it. */
function tryKeepBody(body: unknown): LightBody | null | undefined {
  if (body === undefined || body === null) return null;
  if (typeof body === 'string') return body;
  // The constructor takes a copy: the caller may go on to use its buffer.
  if (body instanceof Uint8Array) return new Uint8Array(body);
  if (body instanceof ArrayBuffer) return new Uint8Array(body.slice(0));
  if (body instanceof ReadableStream && !body.locked && !Readable.isDisturbed(body as never)) return body;
  return undefined;
}

export class LightResponse {
  #status = 200;
  #body: LightBody | null = null;
  #list: MutableHeaderList = [];
  #headers: LightHeaders | undefined;
  #real: Response | undefined;

  constructor(body?: BodyInit | null, init?: ResponseInit) {
    const status = init?.status ?? 200;
    const kept = tryKeepBody(body);
    const isUsual =
      Number.isInteger(status) &&
      status >= 200 &&
      status < 600 &&
      (kept === null || !NULL_BODY_STATUS.has(status)) &&
      !init?.statusText;
    if (kept === undefined || !isUsual) {
      this.#real = new (loadRuntimeClasses().Response)(LightResponse.unwrap(body) as BodyInit, init);
      return;
    }
    this.#list = listHeaders(init?.headers);
    this.#status = status;
    this.#body = kept;
    if (typeof kept === 'string' && !hasHeader(this.#list, 'content-type')) {
      this.#list.push(['content-type', 'text/plain;charset=UTF-8']);
    }
  }

  static unwrap(value: unknown): unknown {
    return typeof value === 'object' && value !== null && #status in value ? value.#promote() : value;
  }

  /** The parts of a response that never became a real one and whose body is at hand. */
  static trySimple(value: object): SimpleResponse | undefined {
    if (!(#status in value) || value.#real || value.#body instanceof ReadableStream) return undefined;
    return {
      status: value.#status,
      headers: value.#headers ? [...value.#headers] : value.#list,
      body: value.#body ?? undefined,
    };
  }

  static json(data: unknown, init?: ResponseInit): Response {
    const text = JSON.stringify(data);
    if (text === undefined) throw new TypeError('Value is not JSON serializable');
    const list = listHeaders(init?.headers);
    if (!hasHeader(list, 'content-type')) list.push(['content-type', 'application/json']);
    return new LightResponse(text, { ...init, headers: list }) as unknown as Response;
  }

  static redirect(url: string | URL, status = 302): Response {
    const location = new URL(String(url)).href;
    if (!REDIRECT_STATUS.has(status)) throw new RangeError(`Invalid status code ${status}`);
    return new LightResponse(null, { status, headers: { location } }) as unknown as Response;
  }

  static error(): Response {
    return loadRuntimeClasses().Response.error();
  }

  /** Real responses, as fetch() gives them, are instances of the global Response as well. */
  static [Symbol.hasInstance](value: unknown): boolean {
    if (this !== LightResponse) return Object.prototype.isPrototypeOf.call(this.prototype, value as object);
    if (typeof value !== 'object' || value === null) return false;
    const real = tryLoadedClasses()?.Response.prototype;
    return #status in value || (real !== undefined && Object.prototype.isPrototypeOf.call(real, value));
  }

  get status(): number {
    return this.#real?.status ?? this.#status;
  }

  get ok(): boolean {
    return this.status >= 200 && this.status < 300;
  }

  get statusText(): string {
    return this.#real?.statusText ?? '';
  }

  get type(): ResponseType {
    return this.#real?.type ?? 'default';
  }

  get url(): string {
    return this.#real?.url ?? '';
  }

  get redirected(): boolean {
    return this.#real?.redirected ?? false;
  }

  get headers(): Headers | LightHeaders {
    return this.#real?.headers ?? (this.#headers ??= LightHeaders.fromChecked(this.#list));
  }

  get bodyUsed(): boolean {
    if (this.#real) return this.#real.bodyUsed;
    return this.#body instanceof ReadableStream && Readable.isDisturbed(this.#body as never);
  }

  get body(): ReadableStream<Uint8Array> | null {
    if (this.#real) return this.#real.body;
    if (this.#body === null || this.#body instanceof ReadableStream) return this.#body;
    return this.#promote().body;
  }

  #promote(): Response {
    if (this.#real) return this.#real;
    const { Response: RealResponse } = loadRuntimeClasses();
    const headers = [...this.headers] as [string, string][];
    const real = new RealResponse(this.#body as BodyInit, { status: this.#status, headers });
    // A content-type that was taken away must not come back with the real one's default.
    if (!hasHeader(headers, 'content-type')) real.headers.delete('content-type');
    this.#real = real;
    return real;
  }
}

for (const name of ['arrayBuffer', 'blob', 'bytes', 'clone', 'formData', 'json', 'text'] as const) {
  Object.defineProperty(LightResponse.prototype, name, {
    configurable: true,
    writable: true,
    value(this: LightResponse) {
      return (LightResponse.unwrap(this) as Response)[name]();
    },
  });
}
