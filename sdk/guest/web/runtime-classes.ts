/**
 * The runtime's own Request, Response and Headers, loaded when something really needs them. In Node they are lazy
 * properties of the global object, and any look at one of them (even at its descriptor) loads the whole fetch stack
 * with TLS and HTTP/2: two thirds of what a Node process costs to start. So this file alone touches them.
 */
export interface RuntimeClasses {
  readonly Request: typeof Request;
  readonly Response: typeof Response;
  readonly Headers: typeof Headers;
}

const onLoad: ((classes: RuntimeClasses) => void)[] = [];
let loaded: RuntimeClasses | undefined;

export function tryLoadedClasses(): RuntimeClasses | undefined {
  return loaded;
}

export function loadRuntimeClasses(): RuntimeClasses {
  if (loaded) return loaded;
  const { Request, Response, Headers } = globalThis;
  loaded = { Request, Response, Headers };
  for (const listener of onLoad.splice(0)) listener(loaded);
  return loaded;
}

/** Calls back once, when they are loaded. */
export function whenLoaded(listener: (classes: RuntimeClasses) => void): void {
  onLoad.push(listener);
}
