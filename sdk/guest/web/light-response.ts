/**
 * A Response that keeps its body and headers as they were given, so that the usual answer (a string or bytes, plain
 * headers) is framed without building a stream and a Headers object. It is an instance of the runtime's Response and
 * becomes a real one as soon as anything unusual is asked of it. Invariant: whatever the real constructor refuses,
 * this one refuses too, by handing the odd cases to it.
 */
import type { HeaderList } from '../../protocol/invocation.ts';

export const RealResponse = globalThis.Response;

type MutableHeaderList = [string, string][];

/** Statuses that forbid a body, or that only the runtime itself may make. */
const NULL_BODY_STATUS: ReadonlySet<number> = new Set([101, 103, 204, 205, 304]);
const HEADER_NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** Visible text and blanks; no line ends, no NUL, nothing above one byte, no blanks at the ends. */
const HEADER_VALUE = /^(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?$/;

/** Headers as a list, or undefined when the real Headers class must decide. */
function tryListHeaders(headers: unknown): MutableHeaderList | undefined {
  if (headers === undefined) return [];
  if (headers instanceof Headers) return [...headers];
  if (typeof headers !== 'object' || headers === null || Symbol.iterator in headers) return undefined;
  const list: MutableHeaderList = [];
  for (const name of Object.keys(headers)) {
    const value: unknown = (headers as Record<string, unknown>)[name];
    const text = typeof value === 'number' ? String(value) : value;
    if (typeof text !== 'string' || !HEADER_NAME.test(name) || !HEADER_VALUE.test(text)) return undefined;
    const lower = name.toLowerCase();
    for (const [other] of list) if (other === lower) return undefined;
    list.push([lower, text]);
  }
  return list;
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

export class LightResponse {
  #status = 200;
  #body: string | Uint8Array | undefined;
  #list: MutableHeaderList | undefined;
  #headers: Headers | undefined;
  #real: Response | undefined;

  constructor(body?: BodyInit | null, init?: ResponseInit) {
    const isText = typeof body === 'string';
    const isSimple = isText || body === undefined || body === null || body instanceof Uint8Array;
    const status = init?.status ?? 200;
    const list = isSimple ? tryListHeaders(init?.headers) : undefined;
    const isUsual =
      Number.isInteger(status) && status >= 200 && status < 600 && !NULL_BODY_STATUS.has(status);
    if (list === undefined || !(isUsual || (status === 204 && body == null)) || init?.statusText) {
      this.#real = new RealResponse(LightResponse.unwrap(body) as BodyInit, init);
      return;
    }
    this.#status = status;
    // The constructor takes a copy: the caller may go on to use its buffer.
    this.#body = isText ? body : body ? new Uint8Array(body as Uint8Array) : undefined;
    if (isText && !hasHeader(list, 'content-type')) list.push(['content-type', 'text/plain;charset=UTF-8']);
    this.#list = list;
  }

  static unwrap(value: unknown): unknown {
    return typeof value === 'object' && value !== null && #status in value ? value.#promote() : value;
  }

  /** The parts of a response that never became a real one. */
  static trySimple(value: object): SimpleResponse | undefined {
    if (!(#status in value) || value.#real || !value.#list) return undefined;
    return {
      status: value.#status,
      headers: value.#headers ? [...value.#headers] : value.#list,
      body: value.#body,
    };
  }

  static json(data: unknown, init?: ResponseInit): Response {
    const text = JSON.stringify(data);
    if (text === undefined) throw new TypeError('Value is not JSON serializable');
    const response = new LightResponse(text, init);
    if (response.#list) {
      const hasOwn =
        init?.headers !== undefined && hasHeader(tryListHeaders(init.headers) ?? [], 'content-type');
      if (!hasOwn) response.#setHeader('content-type', 'application/json');
      return response as unknown as Response;
    }
    return RealResponse.json(data, init);
  }

  static redirect(url: string | URL, status?: number): Response {
    return RealResponse.redirect(url, status);
  }

  static error(): Response {
    return RealResponse.error();
  }

  /** Real responses, as fetch() gives them, are instances of the global Response as well. */
  static [Symbol.hasInstance](value: unknown): boolean {
    const { prototype } = this === LightResponse ? RealResponse : this;
    return Object.prototype.isPrototypeOf.call(prototype, value as object);
  }

  #setHeader(name: string, value: string): void {
    const entry = this.#list?.find(([other]) => other === name);
    if (entry) entry[1] = value;
    else this.#list?.push([name, value]);
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

  get headers(): Headers {
    return this.#real?.headers ?? (this.#headers ??= new Headers(this.#list));
  }

  get bodyUsed(): boolean {
    return this.#real?.bodyUsed ?? false;
  }

  get body(): ReadableStream<Uint8Array> | null {
    if (!this.#real && this.#body === undefined) return null;
    return this.#promote().body;
  }

  #promote(): Response {
    if (this.#real) return this.#real;
    const init = { status: this.#status, headers: this.headers };
    const real = new RealResponse((this.#body as BodyInit) ?? null, init);
    // A content-type that was taken away must not come back with the real one's default.
    if (!init.headers.has('content-type')) real.headers.delete('content-type');
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
