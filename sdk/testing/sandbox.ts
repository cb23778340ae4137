/**
 * Deploys a function to a running server for a test and removes it afterwards. Invariant: the name is new for each
 * deploy, so that tests of one server do not meet, and a function that was deployed is removed also when the test
 * throws. One whose process was killed leaves it behind: such functions have the label `skiff.test`.
 */
import { randomBytes } from 'node:crypto';
import { findSource, suggestName } from '../cli/source/files.ts';
import { packSource } from '../cli/source/pack.ts';
import { createClient, type Client } from '../client/index.ts';
import type { FetchOptions } from '../client/invoke.ts';
import type { LogLine } from '../protocol/api.ts';
import type { InputOf, OutputOf } from '../protocol/typed/json-function.ts';
import { FUNCTION_NAME_LENGTH_MAX } from '../protocol/limits.ts';
import type { FunctionConfigInput } from '../protocol/manifest.ts';

export interface DeployTestOptions {
  /** Of a running server, and a token that may deploy. */
  readonly url: string;
  readonly token?: string | undefined;
  /** Path of the function's file or folder, as for `skiff deploy`. */
  readonly source: string;
  /** Entry module inside a folder; found by the usual names when absent. */
  readonly entry?: string | undefined;
  /** As in `defineFunction`; wins over what the code says. */
  readonly config?: FunctionConfigInput | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A function that runs in sandboxes of a server. */
export interface DeployedTestFunction<F = unknown> extends AsyncDisposable {
  /** Its name on the server: `test-` and more. */
  readonly name: string;
  /** The server, for all that is not about calling. */
  readonly client: Client;
  /** The function's answer, whatever its status. */
  fetch(path?: string, options?: Omit<FetchOptions, 'path'>): Promise<Response>;
  /** Calls a function of JSON. Throws ClientError for every failure. */
  invoke(
    ...input: undefined extends InputOf<F> ? [input?: InputOf<F>] : [input: InputOf<F>]
  ): Promise<OutputOf<F>>;
  /** What was logged until now, oldest first; lines arrive a moment after they were written. */
  logs(): Promise<LogLine[]>;
  /** The same as leaving the block of `await using`. */
  remove(): Promise<void>;
}

/**
 * Deploys a file or folder under a name of its own. Throws ClientError when it cannot be built or started.
 *
 * ```ts
 * import { deployTestFunction } from 'skiff/testing';
 * import type greet from './functions/greet.ts';
 *
 * await using fn = await deployTestFunction<typeof greet>({ url, token, source: './functions/greet.ts' });
 * const response = await fn.fetch('/?name=Ada');
 * ```
 */
export async function deployTestFunction<F = unknown>(
  options: DeployTestOptions,
): Promise<DeployedTestFunction<F>> {
  const { url, token, signal, config } = options;
  const source = findSource(options.source);
  const name = createName(suggestName(source));
  const client = createClient({ url, token });
  const remove = (): Promise<void> => client.remove(name);
  try {
    await client.deploy(name, {
      source: () => packSource(source.files),
      entry: options.entry ?? source.entry,
      config: { ...config, labels: { ...config?.labels, 'skiff.test': 'true' } },
      signal,
    });
  } catch (error) {
    // A build that failed leaves no function, one that was cancelled may.
    await remove().catch(() => {});
    throw error;
  }
  return {
    name,
    client,
    fetch: (path, init) => client.fetch(name, { ...init, ...(path === undefined ? {} : { path }) }),
    invoke: (input?: unknown) => client.invoke(name, input) as Promise<OutputOf<F>>,
    async logs() {
      const lines: LogLine[] = [];
      for await (const line of client.logs(name)) lines.push(line);
      return lines;
    },
    remove,
    [Symbol.asyncDispose]: remove,
  };
}

function createName(suggested: string): string {
  const end = `-${randomBytes(5).toString('hex')}`;
  const room = FUNCTION_NAME_LENGTH_MAX - 'test-'.length - end.length;
  return `test-${suggested.slice(0, room).replace(/-+$/, '') || 'function'}${end}`;
}
