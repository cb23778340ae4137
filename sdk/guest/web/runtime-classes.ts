/**
 * The runtime's own Request, Response and Headers, loaded when something really needs them. In Node they are lazy
 * properties of the global object: reading one loads the whole fetch stack and then puts the class there.
 * Invariant: what `replaceGlobal` put in their place stays in their place.
 */
export interface RuntimeClasses {
  readonly Request: typeof Request;
  readonly Response: typeof Response;
  readonly Headers: typeof Headers;
}

const NAMES = ['Request', 'Response', 'Headers'] as const;

const original = Object.fromEntries(
  NAMES.map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]),
);
const onLoad: ((classes: RuntimeClasses) => void)[] = [];
let loaded: RuntimeClasses | undefined;

export function tryLoadedClasses(): RuntimeClasses | undefined {
  return loaded;
}

export function loadRuntimeClasses(): RuntimeClasses {
  if (loaded) return loaded;
  const ours = NAMES.map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)] as const);
  const read = (name: string): unknown => original[name]?.get?.call(globalThis) ?? original[name]?.value;
  loaded = Object.fromEntries(NAMES.map((name) => [name, read(name)])) as unknown as RuntimeClasses;
  for (const [name, descriptor] of ours) if (descriptor) Object.defineProperty(globalThis, name, descriptor);
  for (const listener of onLoad) listener(loaded);
  return loaded;
}

/** Calls back once, when they are loaded. */
export function whenLoaded(listener: (classes: RuntimeClasses) => void): void {
  onLoad.push(listener);
}

export function replaceGlobal(name: string, value: unknown): void {
  Object.defineProperty(globalThis, name, { value, configurable: true, enumerable: false, writable: true });
}
