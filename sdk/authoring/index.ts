/**
 * What the author of a function imports, published as `skiff`.
 *
 * Owns: the types of a handler and `defineFunction`. Invariant: at run time it is a few lines without any import,
 * as it is bundled into every function that uses it. Deliberately absent: the context's implementation (sdk/guest).
 */
import type { FunctionHandler } from '../protocol/context.ts';
import type { FunctionConfigInput } from '../protocol/manifest.ts';

export type {
  EventWait,
  FunctionContext,
  FunctionExport,
  FunctionHandler,
  FunctionLog,
  FunctionModule,
  InvokeInit,
  MapOptions,
} from '../protocol/context.ts';
/** How a function runs: `{ memory: '512MB', timeout: '10s' }`. What is not said has its default. */
export type FunctionConfig = FunctionConfigInput;

export interface FunctionDefinition {
  /**
   * How the function runs. A deploy reads it without running the code, so it must be written as it is: an object of
   * literals. `export const config = { … }` says the same.
   */
  readonly config?: FunctionConfig;
  /** Answers one invocation. What it throws becomes status 500 for the caller and a stack in the log. */
  readonly fetch: FunctionHandler;
}

/**
 * Gives a function its types; what it returns is what `export default` needs.
 *
 * ```ts
 * import { defineFunction } from 'skiff';
 *
 * export default defineFunction({
 *   config: { memory: '512MB', timeout: '10s' },
 *   fetch: (request, context) => new Response(`call ${context.invocationId}`),
 * });
 * ```
 */
export function defineFunction(definition: FunctionDefinition | FunctionHandler): FunctionDefinition {
  return typeof definition === 'function' ? { fetch: definition } : definition;
}
