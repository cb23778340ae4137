/**
 * Gives a function the light Request, Response and Headers in the place of the runtime's, and teaches the places that
 * take one from the user (constructors, fetch) to see the real one behind it. They are declared in front of the global
 * object's, since putting them on the global object would load the runtime's own first.
 */
import { inspect } from 'node:util';
import vm from 'node:vm';
import { LightHeaders } from './light-headers.ts';
import { LightRequest } from './light-request.ts';
import { LightResponse } from './light-response.ts';
import { loadRuntimeClasses, tryLoadedClasses, whenLoaded, type RuntimeClasses } from './runtime-classes.ts';

/** What user code sees as `Request`: constructs real ones, also from a light one. */
function createRequestClass({ Request: RealRequest }: RuntimeClasses): typeof Request {
  class WrappedRequest extends RealRequest {
    constructor(input: RequestInfo | URL, init?: RequestInit) {
      super(LightRequest.unwrap(input) as RequestInfo, init);
    }

    static override [Symbol.hasInstance](value: unknown): boolean {
      const { prototype } = this === WrappedRequest ? RealRequest : this;
      return Object.prototype.isPrototypeOf.call(prototype, value as object);
    }
  }
  Object.defineProperty(WrappedRequest, 'name', { value: 'Request' });
  return WrappedRequest;
}

function showAsReal(light: { prototype: object }, unwrap: (value: unknown) => unknown): void {
  Object.defineProperty(light.prototype, inspect.custom, {
    configurable: true,
    value(this: object, depth: number, options: object) {
      return inspect(unwrap(this), { ...options, depth });
    },
  });
}

/** `instanceof Request`, which frameworks ask for every call: ours are known without the real class. */
function isRequest(value: unknown): boolean {
  const real = tryLoadedClasses()?.Request;
  return LightRequest.isLight(value) || (real !== undefined && value instanceof real);
}

/** Stands for the `Request` class and becomes it when it is used: most functions only ever name the type. */
function createLazyRequest(): typeof Request {
  let real: typeof Request | undefined;
  const load = (): typeof Request => (real ??= createRequestClass(loadRuntimeClasses()));
  const lazy: typeof Request = new Proxy(function () {} as unknown as typeof Request, {
    construct: (_, args, target) =>
      Reflect.construct(load(), args, (target as unknown) === lazy ? load() : target) as object,
    get: (_, key) => (key === Symbol.hasInstance ? isRequest : (Reflect.get(load(), key) as unknown)),
    has: (_, key) => Reflect.has(load(), key),
  });
  return lazy;
}

interface WebNames {
  readonly Request: unknown;
  readonly Response: unknown;
  readonly Headers: unknown;
  readonly fetch: unknown;
}

/** Answers a fetch that is a call of another function; undefined for all others. */
export type FetchRoute = (host: string, read: () => Request) => Promise<Response> | undefined;

let route: FetchRoute | undefined;

/** From here on `fetch` asks `next` first. */
export function routeFetch(next: FetchRoute): void {
  route = next;
}

/** The host of `http://host/…`, read without loading the runtime's classes; undefined for all that is not http. */
function tryHost(input: RequestInfo | URL): string | undefined {
  const url = typeof input === 'object' && 'url' in input ? input.url : String(input);
  return /^http:\/\/([^/?#:@]+)(?:[/?#:]|$)/i.exec(url)?.[1]?.toLowerCase();
}

let names: WebNames | undefined;

/** What a function's code gets under these names. */
function createWebNames(): WebNames {
  if (names) return names;
  Object.defineProperty(LightResponse, 'name', { value: 'Response' });
  Object.defineProperty(LightHeaders, 'name', { value: 'Headers' });
  showAsReal(LightRequest, LightRequest.unwrap);
  showAsReal(LightResponse, LightResponse.unwrap);
  whenLoaded((classes) => {
    Object.setPrototypeOf(LightRequest.prototype, classes.Request.prototype as object);
    Object.setPrototypeOf(LightResponse.prototype, classes.Response.prototype as object);
  });
  const realFetch = globalThis.fetch;
  names = {
    Request: createLazyRequest(),
    Response: LightResponse,
    Headers: LightHeaders,
    fetch: function fetch(input: RequestInfo | URL, init?: RequestInit) {
      const { Request: RealRequest } = loadRuntimeClasses();
      const host = route && tryHost(input);
      const read = (): Request => new RealRequest(LightRequest.unwrap(input) as RequestInfo, init);
      const routed = host === undefined ? undefined : route?.(host, read);
      if (routed) return routed;
      return realFetch(LightRequest.unwrap(input) as RequestInfo, init);
    },
  };
  return names;
}

let isShadowed = false;

/**
 * Declares the names in the scope that all scripts and modules share, in front of the global object's properties:
 * code finds ours under the bare names, and the runtime's own are not touched.
 */
export function shadowWebNames(): void {
  if (isShadowed) return;
  isShadowed = true;
  const declare =
    'let Request, Response, Headers, fetch; (names) => { ({ Request, Response, Headers, fetch } = names); }';
  (vm.runInThisContext(declare) as (names: WebNames) => void)(createWebNames());
}

/** For code that reaches them through the global object. Loads the runtime's own, since that cannot be avoided then. */
export function installWebGlobals(): void {
  loadRuntimeClasses();
  for (const [name, value] of Object.entries(createWebNames())) {
    Object.defineProperty(globalThis, name, { value, configurable: true, enumerable: false, writable: true });
  }
}
