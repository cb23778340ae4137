/**
 * What the author of a function imports, published as `skiff`.
 *
 * Owns: the types of a handler and `defineFunction`. Invariant: at run time it is a few lines without any import,
 * as it is bundled into every function that uses it. Deliberately absent: the context's implementation (sdk/guest).
 */
import type { FunctionHandler } from '../protocol/context.ts';
import type { InputSchema, JsonFunction } from '../protocol/typed/json-function.ts';
import type { FunctionConfigInput } from '../protocol/manifest.ts';
import { createJsonHandler, type JsonHandle } from './json-function.ts';

export type {
  EventWait,
  FunctionContext,
  FunctionExport,
  FunctionHandler,
  FunctionLog,
  FunctionModule,
  InvokeInit,
  LogFields,
  MapOptions,
} from '../protocol/context.ts';
export type {
  InputOf,
  InputSchema,
  ItemOf,
  Json,
  JsonFunction,
  OutputOf,
  SchemaIssue,
  SchemaResult,
} from '../protocol/typed/json-function.ts';
export type { JsonHandle } from './json-function.ts';
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

/** A function of JSON whose input has the type that `handle` says. It is not checked: see CheckedDefinition. */
export interface JsonDefinition<Input, Output> {
  /** As in FunctionDefinition. */
  readonly config?: FunctionConfig;
  /**
   * Gets the parsed body, `undefined` when there is none. What it returns is sent as JSON; what an async generator
   * yields is sent one line at a time; nothing is status 204. A Response is sent as it is.
   */
  readonly handle: JsonHandle<Input, Output>;
}

/** A function of JSON whose input is checked first; what the schema refuses is answered with status 400. */
export interface CheckedDefinition<Input, Parsed, Output> {
  /** As in FunctionDefinition. */
  readonly config?: FunctionConfig;
  /** Any Standard Schema, for example of zod or valibot. */
  readonly input: InputSchema<Input, Parsed>;
  /** As in JsonDefinition, with what the schema makes of the body. */
  readonly handle: JsonHandle<Parsed, Output>;
}

/** A function that is ready for `export default`, and whose types `client.invoke<typeof it>()` infers. */
export interface DefinedJsonFunction<Input, Output> extends JsonFunction<Input, Output> {
  readonly config?: FunctionConfig;
}

/**
 * Gives a function its types; what it returns is what `export default` needs. With `handle` it is a function of JSON:
 *
 * ```ts
 * import { defineFunction } from 'skiff';
 *
 * export default defineFunction({
 *   config: { memory: '512MB', timeout: '10s' },
 *   handle: (input: { readonly name: string }, context) => ({ text: `Hello, ${input.name}!`, id: context.invocationId }),
 * });
 * ```
 *
 * With `fetch` it is one of HTTP, with the whole request and the whole response:
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
export function defineFunction<Input, Parsed, Output>(
  definition: CheckedDefinition<Input, Parsed, Output>,
): DefinedJsonFunction<Input, Output>;
export function defineFunction<Input, Output>(
  definition: JsonDefinition<Input, Output>,
): DefinedJsonFunction<Input, Output>;
export function defineFunction(definition: FunctionDefinition | FunctionHandler): FunctionDefinition;
export function defineFunction(
  definition: FunctionDefinition | FunctionHandler | JsonDefinition<unknown, unknown>,
): FunctionDefinition {
  if (typeof definition === 'function') return { fetch: definition };
  if (!('handle' in definition)) return definition;
  const { config } = definition;
  return { ...(config && { config }), fetch: createJsonHandler(definition) };
}
