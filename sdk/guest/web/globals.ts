/**
 * Puts the light Request, Response and Headers in the place of the runtime's, and teaches the places that take one
 * from the user (constructors, fetch) to see the real one behind it. Nothing here loads the runtime's own classes.
 */
import { inspect } from 'node:util';
import { LightHeaders } from './light-headers.ts';
import { LightRequest } from './light-request.ts';
import { LightResponse } from './light-response.ts';
import { loadRuntimeClasses, replaceGlobal, whenLoaded, type RuntimeClasses } from './runtime-classes.ts';

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

export function installWebGlobals(): void {
  Object.defineProperty(LightResponse, 'name', { value: 'Response' });
  Object.defineProperty(LightHeaders, 'name', { value: 'Headers' });
  showAsReal(LightRequest, LightRequest.unwrap);
  showAsReal(LightResponse, LightResponse.unwrap);
  whenLoaded((classes) => {
    Object.setPrototypeOf(LightRequest.prototype, classes.Request.prototype as object);
    Object.setPrototypeOf(LightResponse.prototype, classes.Response.prototype as object);
  });
  let requestClass: typeof Request | undefined;
  Object.defineProperty(globalThis, 'Request', {
    configurable: true,
    enumerable: false,
    get: () => (requestClass ??= createRequestClass(loadRuntimeClasses())),
    set(value: unknown) {
      replaceGlobal('Request', value);
    },
  });
  replaceGlobal('Response', LightResponse);
  replaceGlobal('Headers', LightHeaders);
  const realFetch = globalThis.fetch;
  replaceGlobal('fetch', function fetch(input: RequestInfo | URL, init?: RequestInit) {
    loadRuntimeClasses();
    return realFetch(LightRequest.unwrap(input) as RequestInfo, init);
  });
}
