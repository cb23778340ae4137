/**
 * Puts the light Request and Response in the place of the runtime's, and teaches the places that take one from the
 * user (constructors, fetch) to see the real one behind it.
 */
import { inspect } from 'node:util';
import { LightRequest, RealRequest } from './light-request.ts';
import { LightResponse, RealResponse } from './light-response.ts';

/** What user code sees as `Request`: constructs real ones, also from a light one. */
class WrappedRequest extends RealRequest {
  constructor(input: RequestInfo | URL, init?: RequestInit) {
    super(LightRequest.unwrap(input) as RequestInfo, init);
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    const { prototype } = this === WrappedRequest ? RealRequest : this;
    return Object.prototype.isPrototypeOf.call(prototype, value as object);
  }
}

export function installWebGlobals(): void {
  Object.setPrototypeOf(LightRequest.prototype, RealRequest.prototype);
  Object.setPrototypeOf(LightResponse.prototype, RealResponse.prototype);
  Object.defineProperty(WrappedRequest, 'name', { value: 'Request' });
  Object.defineProperty(LightResponse, 'name', { value: 'Response' });
  for (const [light, unwrap] of [
    [LightRequest, LightRequest.unwrap],
    [LightResponse, LightResponse.unwrap],
  ] as const) {
    Object.defineProperty(light.prototype, inspect.custom, {
      configurable: true,
      value(this: object, depth: number, options: object) {
        return inspect(unwrap(this), { ...options, depth });
      },
    });
  }
  const realFetch = globalThis.fetch;
  replaceGlobal('Request', WrappedRequest);
  replaceGlobal('Response', LightResponse);
  replaceGlobal('fetch', function fetch(input: RequestInfo | URL, init?: RequestInit) {
    return realFetch(LightRequest.unwrap(input) as RequestInfo, init);
  });
}

function replaceGlobal(name: string, value: unknown): void {
  Object.defineProperty(globalThis, name, { value, configurable: true, enumerable: false, writable: true });
}
