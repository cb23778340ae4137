/**
 * What the author of a function imports, published as `skiff`.
 *
 * Owns: the types of a handler and `defineFunction`. Invariant: at run time it is a few lines without any import,
 * as it is bundled into every function that uses it. Deliberately absent: the context's implementation (sdk/guest).
 */
import type { FunctionConfigInput } from '../protocol/manifest.ts';
import type { FunctionContext } from './context.ts';

export type { FunctionContext } from './context.ts';
/** Settings of a function, as they may be written: `memory: '512MB'`, `timeout: '10s'`. */
export type FunctionConfig = FunctionConfigInput;

/** Answers one invocation. What it throws becomes status 500 for the caller and a stack in the log. */
export type Handler = (request: Request, context: FunctionContext) => Response | Promise<Response>;

export interface FunctionDefinition {
  readonly fetch: Handler;
  /** Options of `skiff deploy` win over these. Plain literals only: it is read without running the code. */
  readonly config?: FunctionConfig;
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
export function defineFunction(definition: FunctionDefinition | Handler): FunctionDefinition {
  return typeof definition === 'function' ? { fetch: definition } : definition;
}
