/**
 * What the author of a function imports, published as `skiff`.
 *
 * Owns: the types of a handler and `defineFunction`. Invariant: at run time it is a few lines without any import,
 * as it is bundled into every function that uses it. Deliberately absent: the context's implementation (sdk/guest).
 */
import type { FunctionConfigInput } from '../protocol/manifest.ts';
import type { FunctionHandler } from './context.ts';

export type {
  FunctionContext,
  FunctionExport,
  FunctionHandler,
  FunctionLog,
  FunctionModule,
} from './context.ts';
/** Settings of a function, as they may be written: `memory: '512MB'`, `timeout: '10s'`. */
export type FunctionConfig = FunctionConfigInput;

export interface FunctionDefinition {
  /** Answers one invocation. What it throws becomes status 500 for the caller and a stack in the log. */
  readonly fetch: FunctionHandler;
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
export function defineFunction(definition: FunctionDefinition | FunctionHandler): FunctionDefinition {
  return typeof definition === 'function' ? { fetch: definition } : definition;
}
